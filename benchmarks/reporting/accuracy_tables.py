"""Accuracies of `train` beside the paper's, and overhead against accuracy (Fig. 4): what they are, and their tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from diffcore_gpu.benchmarks.harness.measure import within_deviation
from diffcore_gpu.benchmarks.paper import VANILLA
from diffcore_gpu.benchmarks.reporting.tables import (
    MISSING,
    NOISE,
    Table,
    interval,
    make_table,
    mean_and_spread,
    union,
)


@dataclass
class Reached:
    """The accuracies of one arm on one split.

    Attributes:
        variant: of the recipe; None where it has none.
        arm: its name.
        split: that was evaluated.
        top1, top5: in percent, one for each seed; top-5 only where it was told.
    """

    variant: str | None
    arm: str
    split: str
    top1: list[float] = field(default_factory=list)
    top5: list[float] = field(default_factory=list)


def reached(result: dict[str, Any]) -> list[Reached]:
    """The accuracies of a `train` result, by variant, arm and split in the order in which they come."""
    found: dict[tuple[str | None, str, str], Reached] = {}
    for run in result["results"]:
        for split, accuracy in run.get("splits", {}).items():
            key = run["variant"], run["arm"], split
            one = found.setdefault(key, Reached(*key))
            one.top1.append(100 * accuracy["top1"])
            if accuracy.get("top5") is not None:
                one.top5.append(100 * accuracy["top5"])
    return list(found.values())


def failures(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The runs of a `train` result that failed."""
    return [run for run in result["results"] if "failed" in run]


@dataclass(frozen=True)
class Point:
    """A method.

    Attributes:
        name: of the arm whose accuracy it is.
        method: whose overhead it has.
        percent, low, high: overhead A_O and its interval, in percent.
        accuracy: mean, in percent.
        deviation: sample standard deviation over the seeds in points; None: of one seed, or not told.
        seeds: number of runs behind the mean; None: not told.
    """

    name: str
    method: str
    percent: float
    low: float
    high: float
    accuracy: float
    deviation: float | None
    seeds: int | None


def pareto_optimal(points: Sequence[Point]) -> list[bool]:
    """Of each point, whether no other has at most its overhead and at least its accuracy, and betters it in one."""
    return [
        not any(
            other.percent <= point.percent
            and other.accuracy >= point.accuracy
            and (other.percent, other.accuracy) != (point.percent, point.accuracy)
            for other in points
        )
        for point in points
    ]


def to_json(points: Sequence[Point], source: str) -> list[dict[str, Any]]:
    """The points as the entries of a result of `overhead-accuracy`.

    Args:
        points: in any order.
        source: where the accuracies come from.
    """
    return [
        {
            "arm": point.name,
            "method": point.method,
            "overhead": {"percent": point.percent, "low": point.low, "high": point.high},
            "accuracy": {"mean": point.accuracy, "deviation": point.deviation, "seeds": point.seeds},
            "source": source,
            "pareto_optimal": optimal,
        }
        for point, optimal in zip(points, pareto_optimal(points), strict=True)
    ]


def from_json(result: dict[str, Any]) -> list[Point]:
    """The points of a result of `overhead-accuracy`."""
    return [
        Point(
            name=entry["arm"],
            method=entry["method"],
            **{key: float(entry["overhead"][key]) for key in ("percent", "low", "high")},
            accuracy=float(entry["accuracy"]["mean"]),
            deviation=entry["accuracy"]["deviation"],
            seeds=entry["accuracy"]["seeds"],
        )
        for entry in result["results"]
    ]


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
