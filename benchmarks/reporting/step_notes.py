"""How sure the overheads of a result are, in words: turns, correction, A/A arm, load of the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diffcore_gpu.benchmarks.harness.environment import is_busy
from diffcore_gpu.benchmarks.harness.intervals import CONFIDENCE, corrected
from diffcore_gpu.benchmarks.paper import AGAIN, VANILLA
from diffcore_gpu.benchmarks.reporting.tables import interval
from diffcore_gpu.benchmarks.steps.results import AtBatch, Overhead


def overhead_notes(result: Mapping[str, Any], found: Sequence[AtBatch]) -> list[str]:
    """Sentences on the intervals, the A/A arm, what is missing, and the load.

    Args:
        result: of `overhead`.
        found: its arms.
    """
    overheads = [one for at in found for one in at.overheads.values()]
    notes = [*unfinished(result, found)]
    if overheads:
        notes += [_intervals(found, overheads), _again(found)]
    return [*notes, load(result["environment"])]


def unfinished(result: Mapping[str, Any], found: Sequence[AtBatch]) -> list[str]:
    """What a run that was cut off has not measured, or not in all turns."""
    repeats = result["setting"].get("repeats")
    cut = [
        f"{turns} of {repeats} turns at batch {at.batch}{f' ({block})' if block else ''}"
        for at in found
        for block, turns in at.turns.items()
        if block in at.unfinished
    ]
    notes = [f"Unfinished: {', '.join(cut)}."] if cut else []
    missing: dict[str, list[str]] = {}
    for at in found:
        there = {*at.failed, *(arm.method for arm in at.arms.values())}
        lacks = ", ".join(name for name in result["setting"].get("methods", ()) if name not in there)
        if lacks:
            missing.setdefault(lacks, []).append(str(at.batch))
    return notes + [f"Not measured yet at batch {', '.join(at)}: {lacks}." for lacks, at in missing.items()]


def _intervals(found: Sequence[AtBatch], overheads: Sequence[Overhead]) -> str:
    counts = sorted({turns for at in found for turns in at.turns.values() if turns})
    turns = f"{counts[0]} turns" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} turns"
    wanted, reached = corrected(len(overheads)), min(one.coverage for one in overheads)
    compared = f"{len(overheads)} comparison{'' if len(overheads) == 1 else 's'}"
    if reached >= wanted:
        return (
            f"A_O is the median over {turns}, the interval of order statistics corrected for {compared} (Bonferroni): "
            f"each holds its median with {_percent(wanted)} %, so all together with {_percent(CONFIDENCE)} %. Noise: "
            "it holds 0."
        )
    return (
        f"A_O is the median over {turns}, too few for intervals that hold the medians of all {compared} together with "
        f"{_percent(CONFIDENCE)} % ({_percent(wanted)} % each): where they are, the interval is the whole range, which "
        f"holds its median with {_percent(reached)} %. Noise: it holds 0; the others are no findings yet."
    )


def _again(found: Sequence[AtBatch]) -> str:
    """Vanilla over vanilla: what the run calls a difference where there is none."""
    again = [(at, name, one) for at in found for name, one in at.again.items()]
    if not again:
        return "There is no A/A arm: vanilla steps were not measured twice."
    told = ", ".join(
        f"batch {at.batch}{name.removeprefix(AGAIN)} {interval(vars(one)).removesuffix(' (noise)')} %"
        for at, name, one in again
    )
    wrong = [f"batch {at.batch}{name.removeprefix(AGAIN)}" for at, name, one in again if not one.noise]
    widest = max(max(abs(one.low), abs(one.high)) for *_, one in again)
    verdict = (
        f"It does not hold 0 at {', '.join(wrong)}, where something else than the methods made a difference."
        if wrong
        else f"It holds 0; differences below {widest:.1f} % cannot be told from none."
    )
    return f"A/A ({VANILLA} against {VANILLA}): {told}. {verdict}"


def load(environment: Mapping[str, Any]) -> str:
    """The load of the machine when the run began, and whenever it went on."""
    loads = [environment.get("load_at_start"), *environment.get("load_when_resumed", ())]
    told = [value for value in loads if value is not None]
    if not told:
        return "The load of the machine at the start was not recorded."
    cpus = environment.get("cpus")
    processors = f"{cpus} processor{'' if cpus == 1 else 's'}" if cpus else "an unknown number of processors"
    beside = ": other programs ran beside" if any(is_busy(value, cpus) for value in told) else ""
    return f"Load of the machine at the start: {', '.join(f'{value:.2f}' for value in told)} on {processors}{beside}."


def _percent(share: float) -> str:
    return f"{100 * share:.4g}"
