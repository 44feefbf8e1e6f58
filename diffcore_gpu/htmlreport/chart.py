"""Charts as numbers, which the macros of `chart.html` draw as inline SVG.

Positions across are percentages and positions down are pixels, so a chart fills its place at any width while its text
keeps its size. Colours are classes of the page's style sheet.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_AXIS = 22  # pixels below the bars for the numbers
_HEAD = 18  # and above them for the mark's name
_TALL = 150  # pixels from which a chart has more lines and numbers
_SPARK = 24  # pixels, the height of a sparkline
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True)
class Span:
    """The values that a chart shows, from its left edge to its right one."""

    low: float
    high: float

    def across(self, value: float) -> float:
        """Where a value lies, in percent of the width."""
        return round(100 * (value - self.low) / (self.high - self.low), 3)


@dataclass(frozen=True)
class Bar:
    """A bar of several pieces on each other.

    Attributes:
        left, width: in percent.
        counts: what it shows, by the name of the piece.
        title: the same in words.
        pieces: (name, top, height) of those that are not empty, in pixels.
    """

    left: float
    width: float
    counts: Mapping[str, int]
    title: str
    pieces: Sequence[tuple[str, float, float]]


@dataclass(frozen=True)
class Mark:
    """A vertical line with a name.

    Attributes:
        x: in percent.
        name: what is written at it.
    """

    x: float
    name: str

    @property
    def anchor(self) -> str:
        """The end of the name that is at the line."""
        return "start" if self.x < 50 else "end"

    @property
    def dx(self) -> int:
        """Pixels from the line to the name."""
        return 5 if self.x < 50 else -5


@dataclass(frozen=True)
class BarChart:
    """A histogram.

    Attributes:
        label: one sentence for those who do not see it.
        height: in pixels.
        ground: where the bars stand, in pixels from above.
        bars: those that are not empty.
        grid: (y, text) of each line across.
        ticks: (x, anchor, text) of each number below.
        mark: a line down; None: none.
    """

    label: str
    height: int
    ground: int
    bars: Sequence[Bar]
    grid: Sequence[tuple[float, str]]
    ticks: Sequence[tuple[float, str, str]]
    mark: Mark | None


def bar_chart(
    stacks: Mapping[str, Sequence[int]],
    span: Span,
    label: str,
    *,
    mark: float = math.nan,
    mark_name: str = "",
    height: int = 220,
) -> BarChart:
    """Bars of equal width over a span, each of several pieces; the last of `stacks` stands on the ground.

    Args:
        stacks: how many each bar has of each piece, by the name of the piece.
        span: what the bars cover.
        label: one sentence for those who do not see it.
        mark: where a line stands; NaN: none.
        mark_name: what is written at it.
        height: of the chart in pixels.
    """
    columns = list(zip(*stacks.values(), strict=True))
    tallest = max(map(sum, columns), default=0)
    ground = height - _AXIS
    unit = (ground - _HEAD) / max(tallest, 1)
    share, step = 100 / len(columns), (span.high - span.low) / len(columns)
    bars = []
    for number, column in enumerate(columns):
        if not any(column):
            continue
        low = span.low + number * step
        counts = dict(zip(stacks, column, strict=True))
        told = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        bars.append(
            Bar(
                left=round((number + 0.06) * share, 3),
                width=round(0.88 * share, 3),
                counts=counts,
                title=f"{_short(low)} to {_short(low + step)}: {told}",
                pieces=_pieces(counts, ground, unit),
            )
        )
    return BarChart(
        label=label,
        height=height,
        ground=ground,
        bars=bars,
        grid=_grid(tallest, ground, unit, 4 if height > _TALL else 2),
        ticks=_ticks(span, 6 if height > _TALL else 4),
        mark=None if math.isnan(mark) else Mark(span.across(mark), mark_name),
    )


@dataclass(frozen=True)
class Sparkline:
    """A histogram in the height of a line of text.

    Attributes:
        label: one sentence for those who do not see it.
        width: of its coordinates: 1 for a bar.
        outlines: (name, path) of each piece, one behind the other.
        mark: where a line stands; None: none.
    """

    label: str
    width: int
    outlines: Sequence[tuple[str, str]]
    mark: float | None


def sparkline(stacks: Mapping[str, Sequence[int]], span: Span, label: str, mark: float = math.nan) -> Sparkline:
    """The bars of `bar_chart` as outlines."""
    width = len(next(iter(stacks.values())))
    unit = _SPARK / max(1, *map(sum, zip(*stacks.values(), strict=True)))
    outlines = []
    for place, name in enumerate(stacks):
        heights = [sum(column) * unit for column in zip(*list(stacks.values())[place:], strict=True)]
        runs = (f"M{x} {_SPARK}v-{max(size, 1.0):.1f}h1V{_SPARK}z" for x, size in enumerate(heights) if size)
        outlines.append((name, "".join(runs)))
    at = None if math.isnan(mark) else round(span.across(mark) / 100 * width, 2)
    return Sparkline(label, width, [(name, path) for name, path in outlines if path], at)


def _pieces(counts: Mapping[str, int], ground: int, unit: float) -> list[tuple[str, float, float]]:
    top = float(ground)
    pieces = []
    for name, count in reversed(list(counts.items())):
        if count:
            size = max(count * unit, 1.0)
            top -= size
            pieces.append((name, round(top, 1), round(size, 1)))
    return pieces


def _grid(tallest: int, ground: int, unit: float, lines: int) -> list[tuple[float, str]]:
    step = 1
    while tallest // step > lines:
        step = step * 5 // 2 if str(step)[0] == "2" else step * 2
    return [(round(ground - number * unit, 1), f"{number:,}") for number in range(step, tallest + 1, step)]


def _ticks(span: Span, most: int) -> list[tuple[float, str, str]]:
    step = next((step for step in _STEPS if (span.high - span.low) / step <= most), _STEPS[-1])
    ticks = []
    for number in range(math.ceil(span.low / step - 1e-9), math.floor(span.high / step + 1e-9) + 1):
        x = span.across(number * step)
        ticks.append((x, "start" if x < 3 else "end" if x > 97 else "middle", _short(number * step)))
    return ticks


def _short(number: float) -> str:
    whole, _, fraction = f"{number:.3f}".rstrip("0").partition(".")
    return f"{whole}.{fraction.ljust(2, '0')}".replace("-0.00", "0.00").replace("-", "−")
