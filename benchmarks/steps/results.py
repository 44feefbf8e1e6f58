"""What results of `overhead` and `batch-time` say: the arms of each batch size, and A_O with its interval.

Everything is computed from the samples when it is shown, by one function for the printed report, the tables, the plots
and Fig. 4: the intervals are corrected for the number of comparisons that stand side by side.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from diffcore_gpu.benchmarks.harness.intervals import corrected, median_interval
from diffcore_gpu.benchmarks.paper import AGAIN, VANILLA


@dataclass(frozen=True)
class Overhead:
    """A_O of eq. 9 in percent.

    Attributes:
        percent: its median over the turns.
        low, high: the interval that holds the median with `coverage`.
        coverage: probability of that.
    """

    percent: float
    low: float
    high: float
    coverage: float

    @property
    def noise(self) -> bool:
        """Whether the interval holds 0."""
        return self.low <= 0 <= self.high


def overhead(augmented: Sequence[float], vanilla: Sequence[float], coverage: float) -> Overhead:
    """A_O of paired steps, (T_aug − T_van) / T_van turn by turn.

    Args:
        augmented: times of the method's steps.
        vanilla: times of the vanilla steps of the same turns.
        coverage: that the interval should have; see `median_interval`.
    """
    values = [100 * (a - v) / v for a, v in zip(augmented, vanilla, strict=True)]
    return Overhead(statistics.median(values), *median_interval(values, coverage))


@dataclass(frozen=True)
class Arm:
    """Steps with one method in one block of turns.

    Attributes:
        method: its name; `VANILLA` and `AGAIN` are in every block.
        time: `summary` of the steps.
        stages: `load_ms`, `mix_ms` and `train_ms`, medians.
        loader_share: of a step, in which the host waited for the loader; None: without a loader.
        overhead: over the vanilla steps of the same turns; None: it is these, or there are none.
    """

    method: str
    time: Mapping[str, Any]
    stages: Mapping[str, float]
    loader_share: float | None
    overhead: Overhead | None

    @property
    def own_percent(self) -> float:
        """The stage in which the method mixes, in percent of its step."""
        return 100 * self.stages["mix_ms"] / float(self.time["median_ms"])


@dataclass
class AtBatch:
    """The arms at one batch size, by the names under which they are shown.

    Attributes:
        batch: images.
        arms: those that were measured.
        failed: why the others were not.
        turns: measured turns of each block that has begun, by its name.
        unfinished: the blocks that were cut off.
    """

    batch: int
    arms: dict[str, Arm] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    turns: dict[str, int] = field(default_factory=dict)
    unfinished: set[str] = field(default_factory=set)

    @property
    def overheads(self) -> dict[str, Overhead]:
        """Of the arms that have one."""
        return {name: arm.overhead for name, arm in self.arms.items() if arm.overhead is not None}

    @property
    def again(self) -> dict[str, Overhead]:
        """Vanilla steps against vanilla steps, in each block."""
        return {name: found for name, found in self.overheads.items() if self.arms[name].method == AGAIN}


def at_batches(parts: Sequence[Mapping[str, Any]]) -> list[AtBatch]:
    """The arms of every batch size.

    The same arm of a later block (every block has vanilla arms of its own) is called "vanilla (block)".

    Args:
        parts: the `results` that stand side by side; their intervals are corrected for the number of overheads in them.
    """
    comparisons = sum(len(_compared(part)) for part in parts)
    found: dict[int, AtBatch] = {}
    for part in parts:
        at = found.setdefault(part["batch"], AtBatch(part["batch"]))
        _add(at, part, corrected(comparisons))
    return list(found.values())


def _compared(part: Mapping[str, Any]) -> list[str]:
    return [name for name in part["times"] if name != VANILLA] if VANILLA in part["times"] else []


def _add(at: AtBatch, part: Mapping[str, Any], coverage: float) -> None:
    block = part.get("block", "")
    known = {*at.arms, *at.failed}
    compared = _compared(part)
    shares = part.get("loader_share", {})
    samples = {name: time["samples_ms"] for name, time in part["times"].items()}
    for name, time in part["times"].items():
        over = overhead(samples[name], samples[VANILLA], coverage) if name in compared else None
        at.arms[_shown(name, block, known)] = Arm(name, time, part["stages"][name], shares.get(name), over)
    at.failed.update((_shown(name, block, known), why) for name, why in part["failed"].items())
    at.turns[block] = max(map(len, samples.values()), default=0)
    if part.get("unfinished"):
        at.unfinished.add(block)


def _shown(name: str, block: str, known: set[str]) -> str:
    return f"{name} ({block})" if name in known else name
