"""Where the counterparts live while a model trains: in the memory of the device that mixes, or mapped from disk."""

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from torch import Tensor

from diffcore_gpu.errors import StoreError
from diffcore_gpu.plan import Pairs

if TYPE_CHECKING:
    from diffcore_gpu.store.reader import CounterpartStore

Residency: TypeAlias = Literal["auto", "device", "disk"]
RESIDENCIES: tuple[Residency, ...] = ("auto", "device", "disk")

_RESERVE = 512 << 20
"""Bytes of GPU memory that a store leaves free; a training step needs far more, and fails clearly by itself."""


class ResidentStore:
    """A store's rows and pairs as tensors on one device. Immutable, so copies of a module share it.

    Attributes:
        device: where the tensors lie.
        shards: uint8 [n_i, C, H, W] each, in row order; on a GPU exactly one.
        pairs: CSR arrays of the pairs, on the device.

    Args:
        store: an open store.
        device: the device that mixes.
        residency: "device": the whole store is copied to the device's memory; "disk": mapped from its files, on the CPU
            only; "auto": "disk" on the CPU and "device" on a GPU.

    Raises:
        StoreError: the store does not fit into the device's free memory.
        ValueError: a device that cannot mix, or "disk" with a GPU.
    """

    def __init__(self, store: "CounterpartStore", device: torch.device, residency: Residency = "auto") -> None:
        if residency not in RESIDENCIES:
            raise ValueError(f"residency must be one of {', '.join(RESIDENCIES)}, got {residency!r}.")
        if device.type not in ("cpu", "cuda"):
            raise ValueError(f"DiffCoreMix runs on the CPU and on CUDA or ROCm GPUs, not on {device}.")
        if device.type != "cpu" and residency == "disk":
            raise ValueError(f'residency="disk" works on the CPU only; use "device" for {device}.')
        self._source = store, residency
        self.device = device
        if residency == "device" or device.type != "cpu":
            self.shards = [_copy_to(store, device)]
        else:
            self.shards = list(store.image_shards)
        self.pairs = Pairs(store.pair_ptr.to(device), store.pair_row.to(device), store.num_rows)

    def __deepcopy__(self, memo: dict[int, Any]) -> "ResidentStore":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        store, residency = self._source
        return ResidentStore, (store, self.device, residency)


def _copy_to(store: "CounterpartStore", device: torch.device) -> Tensor:
    """All rows in one tensor on the device, copied shard by shard."""
    shape = (store.num_rows, *store.image_shape)
    needed = torch.Size(shape).numel()
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if needed + _RESERVE > free:
            raise StoreError(
                f"{store.path}: its images need {needed / 2**30:.1f} GiB in the memory of {device}, where "
                f"{free / 2**30:.1f} GiB are free; pack the store at a smaller --size or with fewer images."
            )
    rows = torch.empty(shape, dtype=torch.uint8, device=device)
    first = 0
    for shard in store.image_shards:
        rows[first : first + shard.shape[0]].copy_(shard)
        first += shard.shape[0]
    return rows
