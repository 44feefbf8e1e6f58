"""Tables of accuracies beside the paper's, and of overhead against accuracy (Fig. 4)."""

from __future__ import annotations

from typing import Any

from diffcore_gpu.benchmarks.harness.measure import within_deviation
from diffcore_gpu.benchmarks.paper import VANILLA
from diffcore_gpu.benchmarks.reporting.accuracies import Reached, failures, reached
from diffcore_gpu.benchmarks.reporting.tables import (
    MISSING,
    NOISE,
    Table,
    interval,
    make_table,
    mean_and_spread,
    union,
)
from diffcore_gpu.benchmarks.reporting.trade_off import from_json, pareto_optimal


def train_tables(result: dict[str, Any]) -> list[Table]:
    """A table for each variant: accuracy of every arm on every split, beside the paper's."""
    found = reached(result)
    failed = failures(result)
    variants = union([[run["variant"]] for run in result["results"]])
    return [
        _variant_table(
            variant,
            [one for one in found if one.variant == variant],
            [run for run in failed if run["variant"] == variant],
            result.get("paper") or {},
        )
        for variant in variants
    ]


def _variant_table(
    variant: str | None, found: list[Reached], failed: list[dict[str, Any]], paper: dict[str, Any]
) -> Table:
    cells = {(one.arm, one.split): one for one in found}
    arms = union([[one.arm for one in found], [run["arm"] for run in failed]])
    splits = union([[one.split] for one in found])
    shown = [
        (split, top, any(_paper(paper, arm, split, top) is not None for arm in arms))
        for split in splits
        for top in ("top1", "top5")
    ]
    header = ["arm", "seeds"]
    for split, top, has_paper in shown:
        header += [f"{split} {top[:3]}-{top[3:]}, %", *(["paper, %"] if has_paper else [])]
    rows = []
    for arm in arms:
        seeds = max((len(one.top1) for one in found if one.arm == arm), default=0)
        cannot = [run for run in failed if run["arm"] == arm]
        row = [arm, str(seeds) + (f" ({len(cannot)} failed)" if cannot else "")]
        for split, top, has_paper in shown:
            one = cells.get((arm, split))
            row.append(_cell(one, cells.get((arms[0], split)), top))
            if has_paper:
                stated = _paper(paper, arm, split, top)
                row.append(MISSING if stated is None else f"{stated:.2f}")
        rows.append(row)
    note = "Mean ± standard deviation over the seeds, after the last epoch; noise: no further from the first arm than "
    note += "two single runs of the two arms differ by their deviations, √(s² + s₁²). "
    note += " ".join(f"{run['arm']}, seed {run['seed']}, failed: {run['failed']}." for run in failed)
    return make_table(f"Accuracy, {variant}" if variant else "Accuracy", header, rows, note=note.strip())


def _cell(one: Reached | None, first: Reached | None, top: str) -> str:
    values: list[float] = getattr(one, top) if one else []
    if not values:
        return MISSING
    base: list[float] = getattr(first, top) if first else []
    noise = NOISE if one is not first and within_deviation(values, base) else ""
    return mean_and_spread(values) + noise


def _paper(paper: dict[str, Any], arm: str, split: str, top: str) -> float | None:
    stated: float | None = paper.get(arm, {}).get(split, {}).get(top)
    return stated


def trade_off_tables(result: dict[str, Any]) -> list[Table]:
    """Overhead and accuracy of every method, and what is in only one of the two."""
    points = from_json(result)
    rows = [
        (
            point.name,
            entry["source"],
            "0 by definition" if point.method == VANILLA else interval(entry["overhead"]),
            f"{point.accuracy:.2f}" + ("" if point.deviation is None else f" ± {point.deviation:.2f}"),
            MISSING if point.seeds is None else str(point.seeds),
            "yes" if optimal else "no",
        )
        for point, optimal, entry in zip(points, pareto_optimal(points), result["results"], strict=True)
    ]
    reasons: dict[str, list[str]] = {}
    for name, why in result["left_out"].items():
        reasons.setdefault(why, []).append(name)
    left_out = "".join(f" Not shown: {', '.join(names)} ({why.rstrip('.')})." for why, names in reasons.items())
    return [
        make_table(
            f"Overhead and accuracy, batch {result['setting']['batch']}",
            ("method", "accuracy is", "A_O, % (interval)", "accuracy, %", "seeds", "Pareto-optimal"),
            rows,
            text_columns=2,
            note="The intervals of A_O are corrected for the number of methods that were measured at this batch size. "
            "Pareto-optimal, by medians and means: no other method has at most this overhead and at least this "
            f"accuracy.{left_out}",
        )
    ]
