"""Overhead against accuracy: the points of Fig. 4, and which of them no other beats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


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
    """Of each point, whether no other has at most its overhead and at least its accuracy, and betters it in one.

    Sorted by overhead, a point is optimal where its accuracy is the highest at its overhead and above all before it.
    """
    optimal = [False] * len(points)
    highest = float("-inf")
    order = sorted(range(len(points)), key=lambda i: (points[i].percent, -points[i].accuracy))
    for place, i in enumerate(order):
        before = order[place - 1] if place else None
        equal = before is not None and _coordinates(points[before]) == _coordinates(points[i])
        optimal[i] = points[i].accuracy > highest or (equal and before is not None and optimal[before])
        highest = max(highest, points[i].accuracy)
    return optimal


def _coordinates(point: Point) -> tuple[float, float]:
    return point.percent, point.accuracy


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
