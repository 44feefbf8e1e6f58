"""What plots share: colours for light and dark pages, plain axes, PNG files of the data alone, places for labels.

Figures are made and drawn without pyplot, so nothing of a user's own matplotlib is touched.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from diffcore_gpu.benchmarks.paper import OURS

DPI = 144
SMALL = 8.0
"""Points of the small text."""


@dataclass(frozen=True)
class Theme:
    """Colours; those of data are told apart by who sees no red and green, too (after Okabe and Ito)."""

    page: str
    ink: str
    soft: str
    rule: str
    ours: str
    other: str
    paper: str
    load: str
    mix: str
    train: str


LIGHT = Theme(
    "#ffffff", "#1c2127", "#57606a", "#dfe3e8", "#c44f00", "#5c6670", "#0072b2", "#56b4e9", "#e69f00", "#b4bbc3"
)
DARK = Theme(
    "#171b22", "#e6e9ee", "#9da7b3", "#2c333d", "#ff9a4d", "#a4aeb9", "#6cc0f5", "#56b4e9", "#e69f00", "#66707c"
)


@dataclass(frozen=True)
class Plot:
    """A picture that can be drawn in any theme.

    Attributes:
        name: for a file, without suffix.
        caption: what it shows.
        alt: the same and its main figures in words, for who does not see it.
        draw: makes the figure.
    """

    name: str
    caption: str
    alt: str
    draw: Callable[[Theme], Figure]

    def png(self, theme: Theme) -> bytes:
        """The picture; the same data give the same bytes."""
        return png(self.draw(theme))


def png(figure: Figure) -> bytes:
    """A figure as a PNG file without dates and versions.

    Raises:
        ValueError: its names are so long that they leave no room for what is drawn.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "constrained_layout not applied", UserWarning)
        try:
            FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None}, pil_kwargs={"optimize": True})
        except UserWarning as warning:
            if "constrained_layout" not in str(warning):
                raise
            raise ValueError("its names are too long to be drawn.") from warning
    return buffer.getvalue()


def new_figure(
    width: float, height: float, theme: Theme, panels: int = 1, *, share_rows: bool = True
) -> tuple[Figure, list[Axes]]:
    """A figure with panels side by side, in the theme's colours.

    Args:
        width, height: of the whole, in inches.
        theme: colours.
        panels: how many.
        share_rows: whether they have one y axis in common.
    """
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor=theme.page, layout="constrained")
    grid = figure.subplots(1, panels, sharey=share_rows, squeeze=False)
    for axes in grid[0]:
        axes.set_facecolor(theme.page)
        for side, spine in axes.spines.items():
            spine.set_visible(side == "bottom")
            spine.set_color(theme.soft)
        axes.tick_params(colors=theme.soft, labelsize=SMALL, length=3, width=0.6)
        axes.tick_params(axis="y", length=0)
        axes.set_axisbelow(True)
    return figure, list(grid[0])


def name_rows(axes: Axes, names: list[str], theme: Theme) -> None:
    """A row for each name, the first on top; ours stands out."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
        label.set_parse_math(False)
        label.set_color(theme.ours if is_ours(name) else theme.ink)
        label.set_fontweight("bold" if is_ours(name) else "normal")
        label.set_fontsize(SMALL + 0.5)


def is_ours(name: str) -> bool:
    """Whether an arm or method is this library's."""
    return name == OURS or name.startswith(f"{OURS}-")


def title(axes: Axes, text: str, theme: Theme) -> None:
    """What a panel shows, above it."""
    axes.set_title(text, loc="left", fontsize=SMALL + 1, color=theme.ink, parse_math=False)


def below_panels(figure: Figure, marks: Sequence[Any], theme: Theme) -> None:
    """What the marks mean, by their labels, in one line below the panels."""
    figure.legend(
        handles=marks, loc="outside lower center", ncols=len(marks), fontsize=SMALL, frameon=False, labelcolor=theme.ink
    )


def name_axis(axes: Axes, text: str, theme: Theme) -> None:
    """What the x axis shows."""
    axes.set_xlabel(text, fontsize=SMALL, color=theme.soft)


def vertical_rules(axes: Axes, theme: Theme) -> None:
    """Faint lines at the ticks of the x axis."""
    axes.grid(axis="x", color=theme.rule, linewidth=0.6)


def overhead_axis(axes: Axes, low: float, high: float) -> None:
    """An x axis of percent that is linear from −10 to 10 and logarithmic beyond, with plain numbers.

    Args:
        axes: a panel.
        low, high: that it must hold.
    """
    axes.set_xscale("symlog", linthresh=10, linscale=0.8)
    low, high = min(low * 1.25 if low < 0 else low / 1.25, -3.0), max(high * 1.25 if high > 0 else high / 1.25, 12.0)
    ticks = [tick for tick in (-1000, -100, -10, 0, 10, 100, 1000, 10000) if low <= tick <= high]
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(_percent))


def _percent(value: Any, _: Any) -> str:
    return f"{value:+.0f}".replace("-", "−") if value else "0"


class Box(NamedTuple):
    """A rectangle, x to the right and y upwards, in any unit."""

    left: float
    bottom: float
    right: float
    top: float

    def covers(self, other: Box) -> bool:
        """Whether the two have an area in common."""
        across = min(self.right, other.right) - max(self.left, other.left)
        up = min(self.top, other.top) - max(self.bottom, other.bottom)
        return across > 0 and up > 0

    def holds(self, other: Box) -> bool:
        """Whether the other lies within this one."""
        return (
            self.left <= other.left and self.bottom <= other.bottom
            and other.right <= self.right and other.top <= self.top
        )  # fmt: skip


def places(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    bounds: Box,
    *,
    radius: float,
    obstacles: Sequence[Box] = (),
) -> list[Box]:
    """A place for the label of each point: the nearest that is free, first to its right.

    Args:
        points: their centres.
        sizes: width and height of the label of each.
        bounds: that all labels must stay in.
        radius: of a point; labels keep as far from it.
        obstacles: what labels should not cover either, such as the lines of intervals; they do where there is no other
            place near the point.

    Returns:
        A rectangle for each label. None covers another, nor a point, as long as `bounds` has room for that.
    """
    marks = [Box(x - radius, y - radius, x + radius, y + radius) for x, y in points]
    taken: list[Box] = []
    for (x, y), (width, height) in zip(points, sizes, strict=True):
        covered = [*taken, *marks]
        found = (
            _first(_around(x, y, width, height, 2 * radius, bounds), bounds, [*covered, *obstacles])
            or _first(_around(x, y, width, height, 2 * radius, bounds), bounds, covered)
            or _first(_anywhere(x, y, width, height, bounds), bounds, covered)
        )
        taken.append(found or Box(x + 2 * radius, y - height / 2, x + 2 * radius + width, y + height / 2))
    return taken


def _first(candidates: Iterable[Box], bounds: Box, covered: Sequence[Box]) -> Box | None:
    """The first that lies within the bounds and covers nothing."""
    free = (box for box in candidates if bounds.holds(box) and not any(box.covers(other) for other in covered))
    return next(free, None)


def _around(x: float, y: float, width: float, height: float, gap: float, bounds: Box) -> Iterator[Box]:
    """Rectangles in rings around a point, each ring further out, until the whole of the bounds is passed."""
    reach = max(bounds.right - bounds.left, bounds.top - bounds.bottom)
    step = height / 2
    for ring in range(int(reach / step) + 2):
        out = gap + ring * step
        # To the right, left, above, below, then the corners: the label's nearest side keeps `out` from the point.
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)):
            left = x + out if dx > 0 else x - out - width if dx < 0 else x - width / 2
            bottom = y + out if dy > 0 else y - out - height if dy < 0 else y - height / 2
            yield Box(left, bottom, left + width, bottom + height)


def _anywhere(x: float, y: float, width: float, height: float, bounds: Box) -> list[Box]:
    """Rectangles all over the bounds, the nearest to a point first."""
    step = height / 2
    columns = int((bounds.right - bounds.left - width) / step) + 1
    rows = int((bounds.top - bounds.bottom - height) / step) + 1
    corners = [(bounds.left + i * step, bounds.bottom + j * step) for i in range(columns) for j in range(rows)]
    corners.sort(key=lambda corner: (corner[0] + width / 2 - x) ** 2 + (corner[1] + height / 2 - y) ** 2)
    return [Box(left, bottom, left + width, bottom + height) for left, bottom in corners]
