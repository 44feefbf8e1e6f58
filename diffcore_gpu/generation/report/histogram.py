"""Similarities counted in narrow bins as they come: what is kept does not grow with the number of images."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

BIN_WIDTH = 0.005
"""Width of a bin. Bin i holds the values in (i · 0.005, (i + 1) · 0.005]: 0 is an edge, and belongs to what lies below
it, so that S − τ > 0 (accepted) and S − τ ≤ 0 (discarded) never share a bin."""


@dataclass(frozen=True)
class Histogram:
    """Counts of accepted and discarded images in bins of `BIN_WIDTH`, without the empty bins at both ends.

    Attributes:
        first: number of the first bin; negative for values up to 0.
        accepted: images accepted, one entry for each bin.
        discarded: images discarded, for the same bins.
    """

    first: int = 0
    accepted: tuple[int, ...] = ()
    discarded: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.accepted) != len(self.discarded):
            raise ValueError("a histogram needs as many bins of accepted as of discarded images.")
        if min((*self.accepted, *self.discarded), default=0) < 0:
            raise ValueError("a histogram has a negative count.")

    @property
    def total(self) -> int:
        """All images counted."""
        return sum(self.accepted) + sum(self.discarded)

    @property
    def low(self) -> float:
        """Lower edge of the first bin."""
        return self.first * BIN_WIDTH

    @property
    def high(self) -> float:
        """Upper edge of the last bin."""
        return (self.first + len(self.accepted)) * BIN_WIDTH

    def merged(self, factor: int, begin: int, end: int) -> tuple[list[int], list[int]]:
        """Counts (accepted, discarded) in bins `factor` times as wide.

        Args:
            factor: narrow bins in a wide one.
            begin: number of the first narrow bin.
            end: number after the last; `end - begin` is a multiple of `factor`. Bins outside are left out.
        """
        wide: tuple[list[int], list[int]] = ([0] * ((end - begin) // factor), [0] * ((end - begin) // factor))
        for counts, merged in zip((self.accepted, self.discarded), wide, strict=True):
            for position, count in enumerate(counts, self.first):
                if count and begin <= position < end:
                    merged[(position - begin) // factor] += count
        return wide

    def as_json(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {
            "bin_width": BIN_WIDTH,
            "first": self.first,
            "accepted": list(self.accepted),
            "discarded": list(self.discarded),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Histogram:
        """The histogram from `as_json`'s values.

        Raises:
            KeyError, TypeError, ValueError: they are something else.
        """
        if value["bin_width"] != BIN_WIDTH:
            raise ValueError(f"its bins are {value['bin_width']} wide, not {BIN_WIDTH}.")
        return cls(int(value["first"]), tuple(map(int, value["accepted"])), tuple(map(int, value["discarded"])))


class HistogramCounter:
    """Counts values one by one, and gives the `Histogram` so far."""

    def __init__(self) -> None:
        self._accepted: Counter[int] = Counter()
        self._discarded: Counter[int] = Counter()

    def include(self, histogram: Histogram) -> None:
        """Count all that another histogram counted."""
        self._accepted.update(dict(enumerate(histogram.accepted, histogram.first)))
        self._discarded.update(dict(enumerate(histogram.discarded, histogram.first)))

    def add(self, value: float, accepted: bool) -> None:
        """Count one image.

        Raises:
            ValueError: `value` is no finite number.
        """
        if not math.isfinite(value):
            raise ValueError(f"a similarity is {value}, not a number.")
        (self._accepted if accepted else self._discarded)[math.ceil(value / BIN_WIDTH) - 1] += 1

    def histogram(self) -> Histogram:
        """What was counted."""
        bins = [number for counts in (self._accepted, self._discarded) for number, count in counts.items() if count]
        if not bins:
            return Histogram()
        positions = range(min(bins), max(bins) + 1)
        return Histogram(
            positions.start,
            tuple(self._accepted[number] for number in positions),
            tuple(self._discarded[number] for number in positions),
        )


def summed(histograms: Iterable[Histogram]) -> Histogram:
    """One histogram of everything that several counted."""
    counter = HistogramCounter()
    for histogram in histograms:
        counter.include(histogram)
    return counter.histogram()
