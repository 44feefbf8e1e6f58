"""Tables of training steps with every method: Table 6 and the figures behind Fig. 6."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diffcore_gpu.benchmarks import paper
from diffcore_gpu.benchmarks.paper import AGAIN, VANILLA
from diffcore_gpu.benchmarks.reporting.step_notes import load, overhead_notes, unfinished
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
from diffcore_gpu.benchmarks.steps.results import AtBatch, at_batches

_STAGES = ("load", "mix", "train")
OWN, WAITED = "own stage, % of step", "waited for loader"


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
