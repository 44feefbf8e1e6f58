"""What the kernels that draw take: the packed constants, and the packed plan."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffcore_gpu.kernels import spec

FIELDS = ((torch.int64, 1), (torch.bool, 1), (torch.float32, 1), (torch.int32, 4), (torch.bool, 1))
CROP_FIELDS = ((torch.int32, 4), (torch.bool, 1), (torch.int32, 4), (torch.bool, 1))


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
        self.fields = FIELDS + (CROP_FIELDS if crops else ())
        sizes = [dtype.itemsize * count for dtype, count in self.fields]
        self.places: Sequence[int] = tuple(sum(sizes[:k]) for k in range(len(sizes)))
        self.batch, self.padded = batch, (batch + 15) // 16 * 16
        self.packed = torch.full((self.padded * sum(sizes),), 99, dtype=torch.uint8, device=device)

    def tensors(self) -> list[Tensor]:
        """The fields, in the order and types of `MixPlan`."""
        found = []
        for (dtype, count), place in zip(self.fields, self.places, strict=True):
            start = place * self.padded
            values = self.packed[start : start + self.batch * count * dtype.itemsize].view(dtype)
            found.append(values.view(self.batch, count) if count > 1 else values)
        return found
