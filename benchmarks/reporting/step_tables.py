"""Tables of training steps with every method, Table 6 and the figures behind Fig. 6, and in words how sure they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diffcore_gpu.benchmarks import paper
from diffcore_gpu.benchmarks.harness.environment import is_busy
from diffcore_gpu.benchmarks.harness.intervals import CONFIDENCE, corrected
from diffcore_gpu.benchmarks.paper import AGAIN, VANILLA
from diffcore_gpu.benchmarks.reporting.tables import (
    FAILED,
    MISSING,
    SPREAD,
    Table,
    decimals,
    interval,
    make_table,
    signed,
    union,
    with_spread,
)
from diffcore_gpu.benchmarks.steps.results import AtBatch, Overhead, at_batches

_STAGES = ("load", "mix", "train")
OWN, WAITED = "own stage, % of step", "waited for loader"


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


def overhead_tables(result: dict[str, Any]) -> list[Table]:
    """Table 6, a row for each method and columns for each batch size; then the steps themselves."""
    found = at_batches(result["results"])
    methods = union([*at.overheads, *at.failed] for at in found)
    header, columns = ["method"], []
    for at in found:
        theirs = {name: paper.at_batch(paper.OVERHEAD, name, at.batch) for name in methods}
        header += [f"batch {at.batch}: A_O, % (interval)", OWN]
        columns += [{name: overhead_cell(at, name) for name in methods}, {name: own_cell(at, name) for name in methods}]
        if any(value is not None for value in theirs.values()):
            header.append("paper (GPU, ResNet-50), %")
            columns.append({name: signed(value) for name, value in theirs.items()})
    table6 = make_table(
        "What every method adds to a training step (A_O, eq. 9)",
        header,
        ([name, *(column[name] for column in columns)] for name in methods),
        note=f"In brackets the interval of the median. {AGAIN} is {VANILLA} a second time in each turn, so all that "
        "stands there is error. The own stage is that in which a method mixes, with the passes through the model that "
        "it needs for that; what it does inside the forward pass is in A_O alone. The paper's column is its Table 6, "
        f"measured with a ResNet-50 on CUB.{failures(found)}",
        footnote=" ".join(overhead_notes(result, found)),
    )
    return [table6, _steps(result, found, "The steps", details=True)]


def overhead_cell(at: AtBatch, name: str) -> str:
    """A_O of an arm with its interval."""
    if name in at.failed:
        return FAILED
    return interval(vars(at.overheads[name])) if name in at.overheads else MISSING


def own_cell(at: AtBatch, name: str) -> str:
    """The own stage of an arm in percent of its step."""
    return f"{at.arms[name].own_percent:.2f}" if name in at.arms else MISSING


def failures(found: Sequence[AtBatch]) -> str:
    """Sentences on what failed and why, each reason once."""
    batches: dict[tuple[str, str], list[str]] = {}
    for at in found:
        for name, reason in at.failed.items():
            batches.setdefault((name, reason), []).append(str(at.batch))
    told = (f" {name} failed at batch {', '.join(at)}: {why.rstrip('.')}." for (name, why), at in batches.items())
    return "".join(told)


def batch_time_tables(result: dict[str, Any]) -> list[Table]:
    """Seconds of a batch by stages, with those that the paper states."""
    return [_steps(result, at_batches(result["results"]), "Seconds that a batch takes", details=False)]


def _steps(result: dict[str, Any], found: Sequence[AtBatch], title: str, *, details: bool) -> Table:
    loader = any(arm.loader_share is not None for at in found for arm in at.arms.values())
    rows: list[list[str]] = []
    for at in found:
        for name, arm in at.arms.items():
            places = decimals(arm.time["median_ms"] / 1e3) + 1
            stages = [f"{arm.stages[f'{stage}_ms'] / 1e3:.{places}f}" for stage in _STAGES]
            theirs = paper.at_batch(paper.BATCH_SECONDS, name, at.batch)
            share = [share_cell(arm.loader_share)] if loader else []
            stated = MISSING if theirs is None else f"{theirs:.2f}"
            rows.append([str(at.batch), name, with_spread(arm.time, 1e-3), *stages, *share, stated])
        rows += [[str(at.batch), name, FAILED, *[MISSING] * (len(_STAGES) + 1 + loader)] for name in at.failed]
    return make_table(
        title,
        ["batch", "method", f"step, s ({SPREAD})", *_STAGES, *([WAITED] if loader else []), "paper, s"],
        rows,
        text_columns=2,
        note=f"Medians; the stages are seconds, too. {VANILLA} is training without a method. The paper's seconds are "
        f"those that its text on Fig. 6 states, on CUB.{failures(found)}",
        details=details,
        footnote="" if details else " ".join([*unfinished(result, found), load(result["environment"])]),
    )


def share_cell(share: float | None) -> str:
    """A share of a step in percent."""
    return MISSING if share is None else f"{share:.1%}"
