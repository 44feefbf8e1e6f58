"""What the seeds of every arm of a `train` result reached, put together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


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
