"""What the operators that draw their own plan take after the images, and what is the same of it for every batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from diffcore_gpu.kernels.spec import CONSTANTS
from diffcore_gpu.plan import DrawParameters, MixPlan, Pairs, check_index_range, check_labels, draw_mix

if TYPE_CHECKING:
    from diffcore_gpu.kernels import Drawn

DRAW_SCHEMA = (
    "Tensor index, Tensor? labels, Tensor(r!) round, Tensor(s!) status, bool advance, Tensor[] shards, "
    "Tensor pair_ptr, Tensor pair_row, Tensor row_label, Tensor? lam_table, Tensor norm, Tensor constants, int seed, "
    "int[] parameters"
)
"""The arguments after the images, as `torch.library` wants to have them declared."""


class DrawArguments(NamedTuple):
    """The values of `DRAW_SCHEMA`: five that belong to a batch, then those of a `Source`.

    Attributes:
        indices: int64 [B], dataset indices.
        labels: int64 [B], to compare with those of the counterparts, or None.
        round: int64, one element.
        status: int32 [4], counts of unknown indices, unknown rows and wrong labels, for what only a GPU can see; the
            last is the kernel's own.
        advance: add one to `round` afterwards.
        shards: uint8 [n_i, C, H, W] each; on a GPU exactly one, contiguous or channels_last.
        pair_ptr: int64 [num_samples + 1].
        pair_row: int64 [num_pairs].
        row_label: int64 [num_rows].
        lam_table: float32 [65536] or None.
        norm: float32 [2, C, 4] of `affine_of`.
        constants: of `Source`.
        seed: 64-bit key, as a signed integer.
        parameters: the integers of `DrawParameters`.
    """

    indices: Tensor
    labels: Tensor | None
    round: Tensor
    status: Tensor
    advance: bool
    shards: Sequence[Tensor]
    pair_ptr: Tensor
    pair_row: Tensor
    row_label: Tensor
    lam_table: Tensor | None
    norm: Tensor
    constants: Tensor
    seed: int
    parameters: Sequence[int]

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
        plan = draw_mix(
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

    def for_kernel(self) -> Drawn:
        """The same for a Triton kernel, which reads index and labels as contiguous."""
        from diffcore_gpu.kernels import Drawn

        parameters = DrawParameters(*self.parameters)
        return Drawn(
            index=self.indices.contiguous(),
            labels=None if self.labels is None else self.labels.contiguous(),
            round=self.round,
            status=self.status,
            constants=self.constants,
            advance=self.advance,
            lam_table=self.lam_table is not None,
            box_inside=bool(parameters.box_inside),
            best_row=bool(parameters.best_row),
            store_planar=self.shards[0].is_contiguous(),
        )

    def step(self) -> None:
        """Advance the round on the CPU, if it is to be advanced; a kernel does it itself."""
        if self.advance:
            self.round.add_(1)


class Source:
    """What the plans of a run are drawn from, and where its rows lie: all that is the same for every batch.

    Immutable, so threads share it. It holds addresses: copies and pickles of a module make one of their own.

    Attributes:
        constants: int64 on the device, in the order of `kernels.spec.CONSTANTS`: addresses of the tensors here, and
            numbers. A kernel gets it instead of dozens of arguments.

    Args:
        shards, pairs, row_label: of a `ResidentStore`, on one device.
        lam_table: `PlanConfig.lam_table`.
        norm: float32 [2, C, 4] of `affine_of`.
        seed: 64-bit key; taken modulo 2⁶⁴.
        parameters: `PlanConfig.parameters`.
        side_table: `RandomResizedCropMirror.side_table`, where images are cropped.
        crop_parameters: `RandomResizedCropMirror.parameters`, likewise.
    """

    def __init__(
        self,
        shards: Sequence[Tensor],
        pairs: Pairs,
        row_label: Tensor,
        lam_table: Tensor | None,
        norm: Tensor,
        seed: int,
        parameters: DrawParameters,
        side_table: Tensor | None = None,
        crop_parameters: Sequence[int] = (0, 1, 0),
    ) -> None:
        self.device = norm.device
        self.shards = list(shards)
        self.pairs = Pairs(pairs.pair_ptr.contiguous(), pairs.pair_row.contiguous(), pairs.num_rows)
        self.row_label = row_label.contiguous()
        self.lam_table = lam_table
        self.norm = norm
        self.seed = (seed + 2**63) % 2**64 - 2**63
        self.parameters = parameters
        self.side_table = side_table
        numbers = parameters._asdict() | dict(
            zip(("crop_area_low", "crop_area_span", "mirror_below"), crop_parameters, strict=True)
        )
        tensors = {
            "store": self.shards[0] if self.shards else None,
            "pair_ptr": self.pairs.pair_ptr,
            "pair_row": self.pairs.pair_row,
            "row_label": self.row_label,
            "lam_table": lam_table,
            "side_table": side_table,
            "norm": norm,
        }
        numbers |= {name: 0 if tensor is None else tensor.data_ptr() for name, tensor in tensors.items()}
        numbers |= {"num_samples": pairs.pair_ptr.shape[0] - 1, "num_rows": pairs.num_rows, "seed": self.seed}
        self.constants = torch.tensor([numbers[name] for name in CONSTANTS], device=self.device)

    def arguments(
        self, index: Tensor, labels: Tensor | None, round: Tensor, status: Tensor, advance: bool
    ) -> DrawArguments:
        """The arguments of an operator for one batch."""
        return DrawArguments(
            index, labels, round, status, advance, self.shards, self.pairs.pair_ptr, self.pairs.pair_row,
            self.row_label, self.lam_table, self.norm, self.constants, self.seed, list(self.parameters),
        )  # fmt: skip
