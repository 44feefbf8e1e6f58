"""What the kernels that draw take: the packed constants, and the packed plan."""

from __future__ import annotations

import torch
from torch import Tensor

from diffcore_gpu.kernels import spec
from diffcore_gpu.plan.fields import packing_of


def pack_constants(addresses: dict[str, Tensor | None], numbers: dict[str, int], device: str) -> Tensor:
    """int64 in the order of `spec.CONSTANTS`; what is not named is 0. The caller keeps the tensors alive."""
    named = {name: 0 if tensor is None else tensor.data_ptr() for name, tensor in addresses.items()} | numbers
    assert set(named) <= set(spec.CONSTANTS)
    return torch.tensor([named.get(name, 0) for name in spec.CONSTANTS], dtype=torch.int64, device=device)


class PackedPlan:
    """A plan in one uint8 tensor, field after field, as the kernels write it.

    Attributes:
        packed: uint8, filled with 99.
        places: bytes per sample before each field.
    """

    def __init__(self, batch: int, device: str, crops: bool = False) -> None:
        self._packing, self._batch = packing_of(crops), batch
        self.places = self._packing.places
        self.packed = self._packing.empty(batch, device=device).fill_(99)

    def tensors(self) -> list[Tensor]:
        """The fields, in the order and types of `MixPlan`."""
        return list(self._packing.views(self.packed, self._batch))
