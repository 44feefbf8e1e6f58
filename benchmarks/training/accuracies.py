"""What is shown of accuracy runs: a line for each epoch and each run, and the table with the paper's numbers."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

from diffcore_gpu.benchmarks.harness.measure import deviation, table, within_deviation
from diffcore_gpu.benchmarks.training.loop import Epoch

MISSING = "–"


class Clock:
    """How long is left, from the epochs that this process has finished."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._epochs = 0

    def left(self, epoch: Epoch) -> float:
        """Seconds until the end of the run whose epoch was just finished; call it once for each epoch."""
        self._epochs += 1
        return (time.monotonic() - self._start) / self._epochs * (epoch.of - epoch.number)


def epoch_line(run: str, epoch: Epoch, seconds_left: float) -> str:
    """One line about an epoch."""
    accuracy = [f"{split} {shown(accuracies['top1'])} %" for split, accuracies in (epoch.splits or {}).items()]
    return " · ".join(
        [
            f"{run}: epoch {epoch.number}/{epoch.of}",
            f"loss {epoch.loss:.4f}",
            f"lr {epoch.lr:g}",
            *accuracy,
            f"{epoch.samples / epoch.seconds:.1f} images/s",
            f"{duration(seconds_left)} left",
        ]
    )


def duration(seconds: float) -> str:
    """Rounded to what matters: 45 s, 12 min, 3 h 05 min, 2 d 04 h."""
    minutes = round(seconds / 60)
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    hours = round(seconds / 3600)
    if hours < 24:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{hours // 24} d {hours % 24:02d} h"


def shown(fraction: float) -> str:
    """A fraction in percent."""
    return f"{100 * fraction:.2f}"


def run_line(figures: Mapping[str, Any]) -> str:
    """One line about a run: its accuracies after the last epoch, or why it failed."""
    run = f"{figures['arm']}, seed {figures['seed']}"
    if "failed" in figures:
        return f"{run}: failed: {figures['failed']}"
    accuracies = ", ".join(
        f"{split} top-1 {shown(found['top1'])} %, top-5 {shown(found['top5'])} %"
        for split, found in figures["splits"].items()
    )
    return f"{run}: {accuracies} after {figures['epochs']} epochs in {duration(figures['seconds'])}"


def difference(values: Sequence[float], first: Sequence[float]) -> str:
    """The difference of two arms' means in percentage points.

    It is noise where it is no larger than the standard deviation of the difference of two runs, √(s² + s₁²).

    Args:
        values: accuracies of an arm, one for each seed, fractions.
        first: of the arm that it is compared with.
    """
    remark = {None: " (spread unknown)", True: " (noise)", False: ""}[within_deviation(values, first)]
    return f"{100 * (statistics.fmean(values) - statistics.fmean(first)):+.2f}{remark}"


def accuracy_table(
    results: Sequence[Mapping[str, Any]],
    arms: Sequence[str],
    split: str,
    paper: Mapping[str, Mapping[str, Mapping[str, float]]],
) -> str:
    """The accuracies on one split in percent: mean ± standard deviation over the seeds, and the paper's.

    Args:
        results: of the runs, of one variant.
        arms: the rows; the first that has a result is the one that the others are compared with.
        split: which.
        paper: percent, by arm, split, and "top1" or "top5".
    """
    finished = {
        arm: [found["splits"][split] for found in results if found["arm"] == arm and "splits" in found] for arm in arms
    }
    first = next((arm for arm in arms if finished[arm]), None)
    header = (split, "seeds", "top-1", "paper", "top-5", "paper", f"top-1 − {first}" if first else "difference")
    rows = []
    for arm in arms:
        runs = finished[arm]
        cells = [arm, str(len(runs))]
        for key in ("top1", "top5"):
            stated = paper.get(arm, {}).get(split, {}).get(key)
            cells += [_cell([run[key] for run in runs]), MISSING if stated is None else f"{stated:.2f}"]
        compared = runs and first is not None and arm != first
        tops = [run["top1"] for run in runs]
        cells.append(difference(tops, [run["top1"] for run in finished[first]]) if compared and first else MISSING)
        rows.append(cells)
    return table(header, rows)


def _cell(values: Sequence[float]) -> str:
    if not values:
        return MISSING
    spread = deviation(values)
    return f"{shown(statistics.fmean(values))} ± {MISSING if spread is None else shown(spread)}"
