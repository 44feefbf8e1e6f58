"""What the operators that draw their own plan have in common: their arguments, and the checks that belong to them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import torch
from torch import Tensor

from diffcore_gpu.ops.runtime.draw_cpu import draw_cpu
from diffcore_gpu.plan import DrawParameters, MixPlan, Pairs, check_index_range, check_labels

if TYPE_CHECKING:
    from diffcore_gpu.kernels import Drawn

PlanTensors: TypeAlias = tuple[Tensor, ...]

DRAW_SCHEMA = (
    "Tensor index, Tensor? labels, Tensor[] shards, Tensor pair_ptr, Tensor pair_row, Tensor row_label, "
    "Tensor(r!) round, Tensor? lam_table, Tensor norm, Tensor(s!) status, int seed, int[] parameters, bool advance"
)
"""The arguments after the images, as `torch.library` wants to have them declared."""


class DrawArguments(NamedTuple):
    """The values of `DRAW_SCHEMA`.

    Attributes:
        indices: int64 [B], dataset indices.
        labels: int64 [B], to compare with those of the counterparts, or None.
        shards: uint8 [n_i, C, H, W] each; on a GPU exactly one.
        pair_ptr: int64 [num_samples + 1].
        pair_row: int64 [num_pairs].
        row_label: int64 [num_rows].
        round: int64, one element.
        lam_table: float32 [65536] or None.
        norm: float32 [2, C, 4] of `affine_of`.
        status: int32 [3], counts of unknown indices, unknown rows and wrong labels; for what only a GPU can see.
        seed: 64-bit key, as a signed integer.
        parameters: the integers of `DrawParameters`.
        advance: add one to `round` afterwards.
    """

    indices: Tensor
    labels: Tensor | None
    shards: Sequence[Tensor]
    pair_ptr: Tensor
    pair_row: Tensor
    row_label: Tensor
    round: Tensor
    lam_table: Tensor | None
    norm: Tensor
    status: Tensor
    seed: int
    parameters: Sequence[int]
    advance: bool

    @property
    def num_rows(self) -> int:
        """Rows in all shards."""
        return sum(shard.shape[0] for shard in self.shards)

    def draw(self, height: int, width: int) -> MixPlan:
        """The plan, on the CPU.

        Raises:
            ValueError: an index is outside the store, or a label is not that of its counterpart.
        """
        check_index_range(self.indices, self.pair_ptr.shape[0] - 1)
        plan = draw_cpu(
            self.indices,
            Pairs(self.pair_ptr, self.pair_row, self.num_rows),
            DrawParameters(*self.parameters),
            self.lam_table,
            height=height,
            width=width,
            seed=self.seed,
            round=self.round,
        )
        if self.labels is not None:
            check_labels(self.indices, self.labels, plan.row, self.row_label[plan.row.clamp(min=0)])
        return plan

    def for_kernel(self) -> "Drawn":
        """The same for a Triton kernel, which reads index and labels as contiguous."""
        from diffcore_gpu.kernels import Drawn

        labels = None if self.labels is None else self.labels.contiguous()
        return Drawn(
            self.indices.contiguous(), labels, self.pair_ptr, self.pair_row, self.row_label, self.round, self.lam_table,
            self.status, self.seed, self.parameters,
        )  # fmt: skip

    def step(self) -> None:
        """Advance the round, if it is to be advanced."""
        if self.advance:
            self.round.add_(1)


def empty_plan(index: Tensor) -> PlanTensors:
    """Uninitialized tensors in the order and types of `MixPlan` without crops, on index's device."""
    batch = index.shape[0]
    return (
        index.new_empty(batch),
        index.new_empty(batch, dtype=torch.bool),
        index.new_empty(batch, dtype=torch.float32),
        index.new_empty(batch, 4, dtype=torch.int32),
        index.new_empty(batch, dtype=torch.bool),
    )


def empty_crops(index: Tensor) -> PlanTensors:
    """Uninitialized tensors in the order and types of the crops of `MixPlan`, on index's device."""
    batch = index.shape[0]
    return tuple(
        index.new_empty(shape, dtype=dtype) for shape, dtype in (((batch, 4), torch.int32), ((batch,), torch.bool)) * 2
    )


def check_plan(plan: MixPlan, images: Tensor, crops: bool = False) -> None:
    """Refuse a plan that does not fit the images.

    Raises:
        ValueError: naming the field.
    """
    batch = images.shape[0]
    fields = [
        ("row", [batch], torch.int64),
        ("pixel", [batch], torch.bool),
        ("lam", [batch], torch.float32),
        ("box", [batch, 4], torch.int32),
        ("inside_real", [batch], torch.bool),
    ]
    if crops:
        fields += [
            ("crop", [batch, 4], torch.int32),
            ("mirror", [batch], torch.bool),
            ("counterpart_crop", [batch, 4], torch.int32),
            ("counterpart_mirror", [batch], torch.bool),
        ]
    for name, shape, dtype in fields:
        value = getattr(plan, name)
        if value is None:
            raise ValueError(f"plan.{name} is missing; a plan for cropped images has crops and mirror flags.")
        if value.dtype != dtype or list(value.shape) != shape:
            raise ValueError(f"plan.{name} must be {dtype} {shape}, got {value.dtype} {list(value.shape)}.")
        if value.device != images.device:
            raise ValueError(f"plan.{name} lies on {value.device}, but the images on {images.device}.")
