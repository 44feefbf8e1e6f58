"""Drawing the plan of a batch on the host, and gathering the counterparts that it names out of the store.

`PrefetchLoader` does so ahead of the batch, in the background; `DiffCoreMix` itself on the CPU, where the rows do not
lie in memory. What happens to a sample is a function of seed, round and dataset index, so the plan is bit-identical to
the one that `DiffCoreMix` would draw on the device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffcore_gpu.handover import Draw, Prefetched
from diffcore_gpu.plan import MixPlan, Pairs, check_index_range, draw_mix
from diffcore_gpu.plan.fields import Field, Packing, fields_of
from diffcore_gpu.store.nvjpeg import Decoder, decode_on_gpu

if TYPE_CHECKING:
    from diffcore_gpu.geometry import GeometryStage
    from diffcore_gpu.plan import PlanConfig
    from diffcore_gpu.store import CounterpartStore

_PACKED = {
    crops: Packing((Field("slot", torch.int64), Field("label", torch.int64), *fields_of(crops)))
    for crops in (False, True)
}
"""What is sent to the device of a plan, with and without crops, in one copy instead of a dozen.

`slot` is the row's place among the gathered rows, `label` its class, `row` its number in the store.
"""


class Fetcher:
    """Fetches the counterparts of batches, with the settings of one `DiffCoreMix`.

    Args:
        store: where they lie.
        config: what is drawn.
        geometry: what crops, if anything does.
        device: where they go.
        decoder: what decodes rows on their way to a GPU.
    """

    def __init__(
        self,
        store: CounterpartStore,
        config: PlanConfig,
        geometry: GeometryStage | None,
        device: torch.device,
        decoder: Decoder = "cpu",
    ) -> None:
        self._store = store
        self._geometry = geometry
        self._device = device
        self._on_gpu = decoder == "nvjpeg" and device.type == "cuda"
        self._parameters = config.parameters()
        self._lam_table = config.lam_table()

    def fetch(self, index: Tensor, image_size: tuple[int, int] | None, using: Draw) -> tuple[Prefetched, list[Tensor]]:
        """Draw the plan of a batch, and start to copy it and its counterparts.

        Args:
            index: int64 [B], on the CPU.
            image_size: height and width of the images; needed with a geometry.
            using: what the plan is drawn with.

        Returns:
            The counterparts, and the tensors on the device that hold their memory.

        Raises:
            ValueError: an index is outside the store.
            StoreError: the store's files have changed, or a row is damaged.
        """
        plan = self._draw(index, image_size, using)
        store = self._store
        mixed = plan.row >= 0
        # Sorted, so that the disk is read in one direction.
        distinct, places = torch.unique(plan.row[mixed], return_inverse=True)
        slot = torch.full_like(plan.row, -1)
        slot[mixed] = places
        label = torch.full_like(plan.row, -1)
        label[mixed] = store.row_label(plan.row[mixed])
        pin = self._device.type == "cuda"
        if self._on_gpu:
            rows = decode_on_gpu(store, distinct, self._device)
        else:
            gathered = torch.empty((len(distinct), *store.image_shape), dtype=torch.uint8, pin_memory=pin)
            rows = to_device(store.images(distinct, out=gathered), self._device)
        packing = _PACKED[self._geometry is not None]
        packed = to_device(packing.pack({**vars(plan), "slot": slot, "label": label}, pin_memory=pin), self._device)
        slot, label, *fields = packing.views(packed, len(index))
        return Prefetched(using, rows, slot, label, MixPlan(*fields)), [rows, packed]

    def _draw(self, index: Tensor, image_size: tuple[int, int] | None, using: Draw) -> MixPlan:
        store, geometry = self._store, self._geometry
        check_index_range(index, store.num_samples)
        height, width = store.image_shape[1:] if geometry is None else geometry.config.size
        round = torch.tensor(using.round)
        pairs = Pairs(store.pair_ptr, store.pair_row, store.num_rows)
        plan = draw_mix(
            index, pairs, self._parameters, self._lam_table, height=height, width=width, seed=using.seed, round=round
        )
        if geometry is None:
            return plan
        assert image_size is not None
        return geometry.with_crops(plan, index, image_size, store.image_shape[1:], seed=using.seed, round=round)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Start to copy a tensor to a GPU, through page-locked memory; to the CPU, nothing is done."""
    if device.type == "cpu":
        return tensor
    if tensor.device.type == "cpu" and not tensor.is_pinned():
        # torch gives such memory back to others only when the copies out of it are over.
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
