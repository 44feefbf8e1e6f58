"""The fields of a plan: `MixPlan`, and what follows from it wherever a plan is declared, made, checked or moved.

A field is declared once, with its dtype and width, in `MixPlan`; schemas of operators, empty plans, checks, packed
copies and the byte offsets that kernels write to are derived from that. What a field means is decided where it is drawn
(`plan/draw.py`, `ops/mix/numba_kernels.py`, `kernels/plan.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffcore_gpu.kernels.spec import PLAN_PADDING


class Field(NamedTuple):
    """One number, or `width` of them, for each sample.

    Attributes:
        name: its name in `MixPlan`.
        dtype: of the tensor.
        width: 1: the tensor is [B]; otherwise [B, width].
        neutral: its value where nothing is done to a sample.
        of_crops: it is there only where images are cropped.
    """

    name: str
    dtype: torch.dtype
    width: int = 1
    neutral: float = 0
    of_crops: bool = False

    def shape(self, batch: int) -> list[int]:
        """The shape of its tensor for a batch."""
        return [batch] if self.width == 1 else [batch, self.width]


def _field(dtype: torch.dtype, width: int = 1, *, neutral: float = 0, of_crops: bool = False) -> Any:
    declared = {"dtype": dtype, "width": width, "neutral": neutral, "of_crops": of_crops}
    return dataclasses.field(default=None, metadata=declared) if of_crops else dataclasses.field(metadata=declared)


@dataclass(frozen=True)
class MixPlan:
    """What is done to each sample of a batch of B; all tensors on one device.

    Attributes:
        row: int64 [B], the counterpart's row in the store; −1: none, the sample passes through unchanged.
        pixel: bool [B], η of eq. 8. True: pixel-wise mixing (eq. 6); False: patch-wise (eq. 7).
        lam: float32 [B], λ of eq. 6, the share of the real image, in [0, 1], a multiple of 2⁻²⁴. Used where `pixel`.
        box: int32 [B, 4], (top, left, bottom, right) in pixels, half-open and clipped to the image. Used where not
            `pixel`; together with `inside_real` it is the mask M_p of eq. 7.
        inside_real: bool [B]. True: inside the box the real image, outside it the counterpart. False: the reverse.
        crop: int32 [B, 4], (top, left, bottom, right) in pixels of the real image before it is resized, half-open; the
            mix above then happens in the resized images. None, as the other three: nothing is cropped.
        mirror: bool [B], True: left and right of the real image are swapped.
        counterpart_crop: the same for the counterpart.
        counterpart_mirror: the same for the counterpart.
    """

    row: Tensor = _field(torch.int64, neutral=-1)
    pixel: Tensor = _field(torch.bool)
    lam: Tensor = _field(torch.float32, neutral=1)
    box: Tensor = _field(torch.int32, 4)
    inside_real: Tensor = _field(torch.bool)
    crop: Tensor | None = _field(torch.int32, 4, of_crops=True)
    mirror: Tensor | None = _field(torch.bool, of_crops=True)
    counterpart_crop: Tensor | None = _field(torch.int32, 4, of_crops=True)
    counterpart_mirror: Tensor | None = _field(torch.bool, of_crops=True)

    def __len__(self) -> int:
        return self.row.shape[0]

    def to(self, device: torch.device | str) -> MixPlan:
        """The same plan on another device; tensors that are there already are not copied."""
        values: dict[str, Any] = {
            name: None if value is None else value.to(device) for name, value in vars(self).items()
        }
        return MixPlan(**values)

    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors that are there, themselves and not copies, in the order of `FIELDS`."""
        return tuple(value for value in vars(self).values() if value is not None)


FIELDS = tuple(Field(field.name, **field.metadata) for field in dataclasses.fields(MixPlan))
"""All fields, in the order in which operators take and return them."""


def fields_of(crops: bool) -> tuple[Field, ...]:
    """The fields of a plan with or without crops."""
    return tuple(field for field in FIELDS if crops or not field.of_crops)


def schema_of(crops: bool) -> str:
    """The fields as arguments in the schema of an operator."""
    return ", ".join(f"Tensor {field.name}" for field in fields_of(crops))


def neutral_plan(index: Tensor) -> MixPlan:
    """The plan without crops that leaves each sample as it is, on index's device."""
    batch = index.shape[0]
    return MixPlan(
        *(index.new_full(field.shape(batch), field.neutral, dtype=field.dtype) for field in fields_of(crops=False))
    )


def check_plan(plan: MixPlan, images: Tensor, crops: bool = False) -> None:
    """Refuse a plan that does not fit the images.

    Raises:
        ValueError: naming the field.
    """
    batch = images.shape[0]
    for field in fields_of(crops):
        value = getattr(plan, field.name)
        if value is None:
            raise ValueError(f"plan.{field.name} is missing; a plan for cropped images has crops and mirror flags.")
        shape = field.shape(batch)
        if value.dtype != field.dtype or list(value.shape) != shape:
            raise ValueError(f"plan.{field.name} must be {field.dtype} {shape}, got {value.dtype} {list(value.shape)}.")
        if value.device != images.device:
            raise ValueError(f"plan.{field.name} lies on {value.device}, but the images on {images.device}.")


class Packing:
    """Several fields in one tensor of bytes: one allocation, one copy to a device, one argument of a kernel.

    Field k of a batch of B begins at byte ``places[k] * padded(B)``.

    Attributes:
        fields: what is packed, in order.
        places: bytes per sample that lie before each field.

    Args:
        fields: likewise.
    """

    def __init__(self, fields: Sequence[Field]) -> None:
        self.fields = tuple(fields)
        sizes = [field.width * field.dtype.itemsize for field in self.fields]
        self.places = tuple(sum(sizes[:k]) for k in range(len(sizes)))
        self._per_sample = sum(sizes)

    @staticmethod
    def padded(batch: int) -> int:
        """The samples that memory is laid out for: the next multiple of `PLAN_PADDING`."""
        padding: int = PLAN_PADDING
        return -(-batch // padding) * padding

    def nbytes(self, batch: int) -> int:
        """The size of a packed batch."""
        return self._per_sample * self.padded(batch)

    def empty(self, batch: int, *, device: torch.device | str = "cpu", pin_memory: bool = False) -> Tensor:
        """Uninitialized memory: uint8, one-dimensional."""
        return torch.empty(self.nbytes(batch), dtype=torch.uint8, device=device, pin_memory=pin_memory)

    def addresses(self, address: int, batch: int) -> list[int]:
        """Where each field of a batch begins that is packed at an address."""
        padded = self.padded(batch)
        return [address + place * padded for place in self.places]

    def views(self, packed: Tensor, batch: int) -> Iterator[Tensor]:
        """The tensor of each field, on the memory of `packed`."""
        padded = self.padded(batch)
        for field, place in zip(self.fields, self.places, strict=True):
            first = place * padded
            part = packed[first : first + batch * field.width * field.dtype.itemsize]
            yield part.view(field.dtype).view(field.shape(batch))

    def write(self, packed: Tensor, values: Mapping[str, Any], batch: int) -> None:
        """Copy the tensor of every field, found by its name, into packed memory."""
        for field, view in zip(self.fields, self.views(packed, batch), strict=True):
            view.copy_(values[field.name])

    def pack(self, values: Mapping[str, Any], *, pin_memory: bool = False) -> Tensor:
        """A packed copy of tensors on the CPU.

        Args:
            values: the tensor of every field, by its name; others are left out.
            pin_memory: into page-locked memory.
        """
        batch = values[self.fields[0].name].shape[0]
        packed = self.empty(batch, pin_memory=pin_memory)
        self.write(packed, values, batch)
        return packed


PLAN = Packing(fields_of(crops=False))
"""How a plan without crops is packed."""
PLAN_WITH_CROPS = Packing(FIELDS)
"""How a plan with crops is packed."""


def packing_of(crops: bool) -> Packing:
    """`PLAN_WITH_CROPS` or `PLAN`."""
    return PLAN_WITH_CROPS if crops else PLAN


def unpack(packed: Tensor, batch: int, crops: bool = False) -> MixPlan:
    """The plan that lies in a packed tensor, on its memory."""
    return MixPlan(*packing_of(crops).views(packed, batch))
