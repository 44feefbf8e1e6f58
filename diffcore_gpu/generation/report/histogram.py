"""Similarities counted in narrow bins as they come: what is kept does not grow with the number of images."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from diffcore_gpu.htmlreport.chart import Span

BIN_WIDTH = 0.005
"""Width of a bin. Bin i holds the values in (i · 0.005, (i + 1) · 0.005]: 0 is an edge, and belongs to what lies below
it, so that S − τ > 0 (accepted) and S − τ ≤ 0 (discarded) never share a bin."""
_FARTHEST = 1000
"""Bins from 0; a difference of two similarities lies in [−2, 2], which are 400, and rounding may bring it beyond."""
_FACTORS = (1, 2, 4, 10, 20, 40)  # wide bins of 0.005, 0.01, 0.02, 0.05, 0.1, 0.2


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

    def merged(self, scale: Scale) -> dict[str, list[int]]:
        """Counts by "accepted" and "discarded" in the wide bins of a scale; bins outside of it are left out."""
        wide = {name: [0] * ((scale.end - scale.begin) // scale.factor) for name in ("accepted", "discarded")}
        for name, merged in wide.items():
            for position, count in enumerate(getattr(self, name), self.first):
                if count and scale.begin <= position < scale.end:
                    merged[(position - scale.begin) // scale.factor] += count
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
        """The histogram from `as_json`'s values, which anyone may have written.

        Raises:
            KeyError, TypeError, ValueError: they are something else, or of values that no similarity and no difference
                of two has: a chart would have a bar for each.
        """
        if value["bin_width"] != BIN_WIDTH:
            raise ValueError(f"its bins are not {BIN_WIDTH} wide.")
        first, accepted, discarded = value["first"], value["accepted"], value["discarded"]
        if not isinstance(accepted, list) or not isinstance(discarded, list):
            raise TypeError("its bins are no list.")
        if not all(type(number) is int and number < 2**63 for number in (first, *accepted, *discarded)):
            raise TypeError("its bins are no numbers of images.")
        if first < -_FARTHEST or first + max(len(accepted), len(discarded)) > _FARTHEST:
            raise ValueError("its bins lie outside of what similarities can be.")
        return cls(first, tuple(accepted), tuple(discarded))


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


@dataclass(frozen=True)
class Scale:
    """The horizontal scale of one or several histograms, in narrow bins.

    Attributes:
        begin: number of the first bin shown.
        end: number after the last; `end - begin` is a multiple of `factor`.
        factor: narrow bins in a wide one.
    """

    begin: int
    end: int
    factor: int

    @property
    def span(self) -> Span:
        """The values from edge to edge."""
        return Span(self.begin * BIN_WIDTH, self.end * BIN_WIDTH)


def common_scale(histograms: Iterable[Histogram], marks: Iterable[float], most_bars: int) -> Scale:
    """The scale that shows every value of the histograms and every mark in at most `most_bars` bins, if it can be."""
    filled = [histogram for histogram in histograms if histogram.total]
    edges = [round(mark / BIN_WIDTH) for mark in marks if not math.isnan(mark)]
    lows = [histogram.first for histogram in filled] + [edge - 2 for edge in edges]
    highs = [histogram.first + len(histogram.accepted) for histogram in filled] + [edge + 2 for edge in edges]
    low, high = min(lows, default=0), max(highs, default=200)
    for factor in _FACTORS:
        begin, end = low // factor * factor, -(-high // factor) * factor
        if (end - begin) // factor <= most_bars:
            break
    return Scale(begin, max(end, begin + 4 * factor), factor)
