"""What the benchmarks share: timing by turns, summaries of samples, and tables of text.

Actions that are compared take turns, so that another load on the machine falls on all of them, and every sample is
kept, so that a reader can judge the spread.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

HEAD_START_CYCLES = 2_000_000
"""Clock cycles (about a millisecond) that a GPU waits, so that the host has queued an action before it begins."""


def interleaved(
    actions: Mapping[str, Callable[[], object]],
    *,
    device: torch.device,
    repeats: int,
    warmup: int = 5,
    prepare: Callable[[], object] | None = None,
    head_start: bool = False,
    shuffle: bool = True,
) -> dict[str, list[float]]:
    """Seconds of each of `repeats` calls of every action, by turns, in an order that is drawn anew for every round.

    An action finds the caches as the one before it leaves them, and in a fixed order that would always be the same one.

    Args:
        actions: what is measured, by name. What an action returns is freed outside of the measured time.
        device: where the actions run. On the CPU a clock is read before and after; on a GPU events are recorded before
            and after, and the device is waited for.
        repeats: measured rounds.
        warmup: rounds that are not measured.
        prepare: called before every action, not measured.
        head_start: on a GPU, keep the device busy until the host has queued the whole action: what is measured then is
            the time of the device alone, without gaps in which it waits for the host. The actions must not wait for
            the device themselves.
        shuffle: draw the order; otherwise it is always the given one.
    """
    measure = _gpu_seconds if device.type == "cuda" else _cpu_seconds
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    order = list(actions.items())
    shuffled = random.Random(0)
    for repeat in range(-warmup, repeats):
        if shuffle:
            shuffled.shuffle(order)
        for name, action in order:
            if prepare is not None:
                prepare()
            elapsed = measure(action, head_start)
            if repeat >= 0:
                seconds[name].append(elapsed)
    return seconds


def _cpu_seconds(action: Callable[[], object], _: bool) -> float:
    start = time.perf_counter()
    result = action()
    elapsed = time.perf_counter() - start
    del result  # after the clock: freeing is not part of the action
    return elapsed


def _gpu_seconds(action: Callable[[], object], head_start: bool) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    if head_start:
        torch.cuda._sleep(HEAD_START_CYCLES)
    start.record()
    result = action()
    end.record()
    torch.cuda.synchronize()
    del result
    milliseconds: float = start.elapsed_time(end)
    return milliseconds / 1e3


def quantiles(samples: Sequence[float]) -> tuple[float, float, float]:
    """Median, 10th and 90th percentile; of one sample, that sample."""
    if len(samples) == 1:
        return (samples[0],) * 3
    tenths = statistics.quantiles(samples, n=10, method="inclusive")
    return statistics.median(samples), tenths[0], tenths[-1]


def summary(seconds: Sequence[float]) -> dict[str, Any]:
    """Median, 10th and 90th percentile in milliseconds, and the samples behind them.

    Args:
        seconds: one sample or more.
    """
    median, low, high = quantiles(seconds)
    return {
        "median_ms": median * 1e3,
        "p10_ms": low * 1e3,
        "p90_ms": high * 1e3,
        "samples_ms": [round(value * 1e3, 5) for value in seconds],
    }


def within_noise(one: Mapping[str, Any], other: Mapping[str, Any], unit: str = "ms") -> bool:
    """Whether two summaries differ by no more than their spread: each median lies within the other's p10 to p90.

    Args:
        one, other: of `summary`, or in another unit.
        unit: at the end of their keys.
    """
    median, low, high = f"median_{unit}", f"p10_{unit}", f"p90_{unit}"
    return all(bool(a[low] <= b[median] <= a[high]) for a, b in ((one, other), (other, one)))


def deviation(values: Sequence[float]) -> float | None:
    """Sample standard deviation, or None of one value."""
    return statistics.stdev(values) if len(values) > 1 else None


def within_deviation(values: Sequence[float], others: Sequence[float]) -> bool | None:
    """Whether two means differ by no more than the deviation of the difference of two runs, √(s² + s₁²).

    None where one of the two has a single value: nothing can be said.
    """
    one, other = deviation(values), deviation(others)
    if one is None or other is None:
        return None
    return abs(statistics.fmean(values) - statistics.fmean(others)) <= math.hypot(one, other)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain-text table: first column to the left, the others to the right."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join([first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))])
        for first, *rest in lines
    )
