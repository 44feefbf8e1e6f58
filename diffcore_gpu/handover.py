"""What a `PrefetchLoader` hands to the `DiffCoreMix` that mixes its batches: the counterparts of the batch at hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from diffcore_gpu.plan import MixPlan


class Draw(NamedTuple):
    """What a plan depends on beside the index."""

    round: int
    seed: int


@dataclass(frozen=True)
class Prefetched:
    """The counterparts of one batch of B, on the device that mixes.

    Attributes:
        draw: what the plan was drawn with.
        rows: uint8 [n, C, H, W], the distinct rows that the plan names.
        slot: int64 [B], for each sample the place of its row in `rows`; −1: none.
        label: int64 [B], the class of that row; −1: none.
        plan: the plan; its `row` counts in the store.
    """

    draw: Draw
    rows: Tensor
    slot: Tensor
    label: Tensor
    plan: MixPlan


class Handover:
    """Where a `PrefetchLoader` leaves the counterparts of the batch that it yields, for the `DiffCoreMix` that owns it.

    One batch at a time: that which was yielded last. Not part of the module's state: copies and pickles get a new one.
    """

    def __init__(self) -> None:
        self.batch: Prefetched | None = None
        self._index: tuple[Tensor, int] | None = None
        self._round: tuple[Tensor, int, int] | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Handover:
        return Handover()

    def __reduce__(self) -> tuple[Any, ...]:
        return Handover, ()

    def put(self, index: Tensor, batch: Prefetched) -> None:
        """Leave what belongs to this very tensor `index`, with the values that it has now."""
        self.batch, self._index = batch, (index, _version(index))

    def clear(self) -> None:
        """Nothing is prefetched."""
        self.batch = self._index = None

    def find(self, index: Tensor, now: Draw) -> Prefetched | str:
        """The counterparts of `index`, or a clause that says why there are none."""
        if self.batch is None or self._index is None:
            return "no batch of a PrefetchLoader is waiting to be mixed"
        if self._index[0] is not index:
            return "this index is not the one of the batch that the PrefetchLoader yielded last"
        if self._index[1] != _version(index):
            return "the index was changed after the PrefetchLoader yielded it"
        if self.batch.draw.seed != now.seed:
            return "the seed was changed after the PrefetchLoader yielded the batch"
        if self.batch.draw.round != now.round:
            return "the round has moved on since the PrefetchLoader yielded the batch, which was perhaps mixed already"
        return self.batch

    def round_of(self, round: Tensor) -> int:
        """The value of the buffer `round`, which waits for a GPU only where something but `advance` has changed it."""
        if round.device.type == "cpu":
            return int(round)
        known = self._round
        if known is None or known[0] is not round or known[1] != _version(round):
            known = self._round = round, _version(round), int(round)
        return known[2]

    def advance(self, round: Tensor) -> None:
        """Add one to the buffer `round`, without waiting, and remember what it is then."""
        value = self.round_of(round) + 1
        round.add_(1)
        self._round = round, _version(round), value


def _version(tensor: Tensor) -> int:
    """How often a tensor was changed in place; torch does not count that for tensors of `inference_mode`."""
    return 0 if tensor.is_inference() else tensor._version
