"""Methods that train by turns, and the figures of the turns so far, from which a run that was cut off goes on.

Each turn runs a few steps in a row of every method, in an order of its own, and waits for the device only at the end of
the row, as a training loop does; a sample is the mean step of a row. With real images the first steps of a row are not
measured: they use up the batches that were made while another method was training.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any, NamedTuple

import torch

from diffcore_gpu.benchmarks.harness.measure import summary
from diffcore_gpu.benchmarks.training.step import FAILURES, Batches, Mix, Row, Trainer
from diffcore_gpu.errors import clause

_STAGES = ("load", "mix", "train")


class Trainee(NamedTuple):
    """A method and the batches that it trains on."""

    mix: Mix
    batches: Batches


@dataclass
class Turns:
    """What was measured so far.

    Attributes:
        rows: of each method that did not fail, one for each turn.
        failed: why the others did; they take no more turns.
        count: turns that are over.
    """

    rows: dict[str, list[Row]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    count: int = 0

    def fail(self, name: str, error: BaseException) -> None:
        """Drop a method."""
        self.rows.pop(name, None)
        self.failed[name] = clause(error)


def by_turns(
    trainer: Trainer, trainees: Mapping[str, Trainee], turns: Turns, *, repeats: int, warmup: int, steps: int
) -> Iterator[Turns]:
    """Let every method take its turns, in an order that depends on the number of the turn alone.

    Args:
        trainer: the model.
        trainees: the methods by name.
        turns: those that were measured before; the new ones are added.
        repeats: measured turns in the end.
        warmup: turns before them, also where some were measured before: the model is new. A method that fails does so
            here, or later, and then takes no more turns.
        steps: measured steps of a row.

    Yields:
        `turns`, after each measured turn.
    """
    for name in trainees:
        if name not in turns.failed:
            turns.rows.setdefault(name, [])
    for turn in range(turns.count - max(warmup, 1), repeats):
        for name in random.Random(turn).sample(list(trainees), len(trainees)):
            if name in turns.failed:
                continue
            mix, batches = trainees[name]
            try:
                if batches.ahead:
                    trainer.row(batches, mix, batches.ahead)
                row = trainer.row(batches, mix, steps)
            except FAILURES as error:
                turns.fail(name, error)
                if trainer.device.type == "cuda":
                    torch.cuda.empty_cache()
                continue
            if turn >= turns.count:
                turns.rows[name].append(row)
        if turn >= turns.count:
            turns.count += 1
            yield turns


def figures(turns: Turns, *, loader: bool) -> dict[str, Any]:
    """The times of each method as a result holds them.

    Args:
        turns: one at least, unless all methods failed.
        loader: whether batches came from one, whose share is then told.

    Returns:
        `turns`: how many. `times`: the summary of a step. `stages`: medians of its stages in ms. `stage_samples`: these
        and the time that the host waited for the loader, row by row. `loader_share`: the median share of a step in
        which it waited. `failed`: why the other methods have none of them.
    """
    rows = turns.rows
    found: dict[str, Any] = {
        "turns": turns.count,
        "times": {name: summary([row.step for row in of]) for name, of in rows.items()},
        "stages": {
            name: {f"{stage}_ms": round(1e3 * median(getattr(row, stage) for row in of), 5) for stage in _STAGES}
            for name, of in rows.items()
        },
        "stage_samples": {
            name: {f"{stage}_ms": [round(1e3 * getattr(row, stage), 5) for row in of] for stage in (*_STAGES, "waited")}
            for name, of in rows.items()
        },
    }
    if loader:
        found["loader_share"] = {name: median(row.waited / row.step for row in of) for name, of in rows.items()}
    return {**found, "failed": dict(turns.failed)}


def turns_of(found: Mapping[str, Any] | None) -> Turns:
    """What `figures` told of, to go on from it.

    Args:
        found: of `figures`, read from a file that anyone may have written; None: nothing was measured yet.

    Raises:
        LookupError, TypeError, ValueError, AttributeError: it is something else.
    """
    if found is None:
        return Turns()
    rows, count = {}, found["turns"]
    for name, stages in found["stage_samples"].items():
        columns = [stages[f"{stage}_ms"] for stage in (*_STAGES, "waited")]
        samples = zip(*columns, found["times"][name]["samples_ms"], strict=True)
        rows[name] = [Row(*(ms / 1e3 for ms in sample)) for sample in samples]
    if type(count) is not int or count < 0 or any(len(of) != count for of in rows.values()):
        raise ValueError(f"there are not {count!r} turns of every method.")
    if not all(math.isfinite(sum(row)) and row.step > 0 for of in rows.values() for row in of):
        raise ValueError("a step took no time, or no finite one.")
    return Turns(rows, {name: str(why) for name, why in found["failed"].items()}, count)
