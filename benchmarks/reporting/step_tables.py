"""Tables of training steps with every method: Table 6 and the figures behind Fig. 6."""

from __future__ import annotations

from typing import Any

from diffcore_gpu.benchmarks import paper
from diffcore_gpu.benchmarks.paper import VANILLA
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

_STAGES = ("load", "mix", "train")


def overhead_tables(result: dict[str, Any]) -> list[Table]:
    """Table 6, a row for each method and columns for each batch size; then the steps themselves."""
    parts = result["results"]
    methods = union([*part["overheads"], *part["failed"]] for part in parts)
    header, columns = ["method"], []
    for part in parts:
        batch = part["batch"]
        theirs = {name: paper.at_batch(paper.OVERHEAD, name, batch) for name in methods}
        header.append(f"batch {batch}: A_O, % (95 %)")
        columns.append({name: _overhead_cell(part, name) for name in methods})
        if any(value is not None for value in theirs.values()):
            header.append("paper (GPU, ResNet-50), %")
            columns.append({name: signed(value) for name, value in theirs.items()})
    table6 = make_table(
        "What every method adds to a training step (A_O, eq. 9)",
        header,
        ([name, *(column[name] for column in columns)] for name in methods),
        note="In brackets the interval that holds the median with 95 %; noise: it holds 0. The paper's column is its "
        f"Table 6, measured with a ResNet-50 on CUB.{_failures(parts)}",
    )
    return [table6, _steps(result, "The steps", details=True)]


def _overhead_cell(part: dict[str, Any], name: str) -> str:
    if name in part["failed"]:
        return FAILED
    return interval(part["overheads"][name]) if name in part["overheads"] else MISSING


def _failures(parts: list[dict[str, Any]]) -> str:
    """Sentences on what failed and why, each reason once."""
    batches: dict[tuple[str, str], list[str]] = {}
    for part in parts:
        for name, reason in part["failed"].items():
            batches.setdefault((name, reason), []).append(str(part["batch"]))
    told = (f" {name} failed at batch {', '.join(at)}: {why.rstrip('.')}." for (name, why), at in batches.items())
    return "".join(told)


def batch_time_tables(result: dict[str, Any]) -> list[Table]:
    """Seconds of a batch by stages, with those that the paper states."""
    return [_steps(result, "Seconds that a batch takes", details=False)]


def _steps(result: dict[str, Any], title: str, *, details: bool) -> Table:
    parts = result["results"]
    loader = any("loader_share" in part for part in parts)
    rows: list[list[str]] = []
    for part in parts:
        batch = part["batch"]
        for name, time in part["times"].items():
            places = decimals(time["median_ms"] / 1e3) + 1
            stages = [f"{part['stages'][name][f'{stage}_ms'] / 1e3:.{places}f}" for stage in _STAGES]
            theirs = paper.at_batch(paper.BATCH_SECONDS, name, batch)
            share = [_percent(part.get("loader_share", {}).get(name))] if loader else []
            stated = MISSING if theirs is None else f"{theirs:.2f}"
            rows.append([str(batch), name, with_spread(time, 1e-3), *stages, *share, stated])
        rows += [[str(batch), name, FAILED, *[MISSING] * (len(_STAGES) + 1 + loader)] for name in part["failed"]]
    return make_table(
        title,
        ["batch", "method", f"step, s ({SPREAD})", *_STAGES, *(["waited for loader"] if loader else []), "paper, s"],
        rows,
        text_columns=2,
        note=f"Medians; the stages are seconds, too. {VANILLA} is training without a method. The paper's seconds are "
        f"those that its text on Fig. 6 states, on CUB.{_failures(parts)}",
        details=details,
    )


def _percent(share: float | None) -> str:
    return MISSING if share is None else f"{share:.1%}"
