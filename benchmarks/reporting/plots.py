"""What all plots share: colours for light and dark pages, plain axes, and PNG files that depend on the data alone.

Figures are made and drawn without pyplot, so nothing of a user's own matplotlib is touched.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

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
    """A figure as a PNG file without dates and versions."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None}, pil_kwargs={"optimize": True})
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
