"""Plots of accuracies beside the paper's, and of overhead against accuracy (Fig. 4)."""

from __future__ import annotations

import itertools
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from diffcore_gpu.benchmarks.harness.measure import deviation
from diffcore_gpu.benchmarks.reporting.accuracies import Reached, reached
from diffcore_gpu.benchmarks.reporting.label_places import Box, places
from diffcore_gpu.benchmarks.reporting.plots import (
    SMALL,
    Plot,
    Theme,
    is_ours,
    name_axis,
    name_rows,
    new_figure,
    overhead_axis,
    title,
    vertical_rules,
)
from diffcore_gpu.benchmarks.reporting.tables import union
from diffcore_gpu.benchmarks.reporting.trade_off import Point, from_json, pareto_optimal


def train_plots(result: dict[str, Any]) -> list[Plot]:
    """Top-1 accuracy of every arm, every seed and their mean ± deviation; a plot for each variant."""
    found = reached(result)
    paper = result.get("paper") or {}
    plots = []
    for variant in union([[one.variant] for one in found]):
        of_variant = [one for one in found if one.variant == variant]
        plots.append(_train_plot(variant or "train", of_variant, paper))
    return plots


def _train_plot(name: str, found: list[Reached], paper: dict[str, Any]) -> Plot:
    arms = union([[one.arm] for one in found])
    splits = union([[one.split] for one in found])

    def draw(theme: Theme) -> Figure:
        figure, panels = new_figure(2.2 + 3.4 * len(splits), 0.9 + 0.27 * len(arms), theme, len(splits))
        for split, axes in zip(splits, panels, strict=True):
            for one in (one for one in found if one.split == split):
                _arm(axes, one, arms.index(one.arm), paper.get(one.arm, {}).get(split, {}).get("top1"), theme)
            vertical_rules(axes, theme)
            axes.margins(x=0.08)
            axes.locator_params(axis="x", nbins=5)
            title(axes, split, theme)
            name_axis(axes, "top-1, %", theme)
        name_rows(panels[0], arms, theme)
        return figure

    told = ", ".join(f"{one.arm} on {one.split} {_mean(one.top1):.2f} %" for one in found)
    caption = "Mean (large point) ± standard deviation (line) over the seeds (small points); a diamond is the paper's."
    return Plot(name, caption, f"Top-1 accuracy of every arm. {told}.", draw)


def _arm(axes: Axes, one: Reached, row: int, theirs: float | None, theme: Theme) -> None:
    colour = theme.ours if is_ours(one.arm) else theme.other
    mean, spread = _mean(one.top1), deviation(one.top1)
    if theirs is not None:
        axes.plot([theirs], [row], "D", markersize=4.5, color=theme.paper, fillstyle="none", markeredgewidth=1)
    if spread is not None:
        axes.plot([mean - spread, mean + spread], [row, row], color=colour, linewidth=1.4, solid_capstyle="butt")
        axes.plot(one.top1, [row + 0.24] * len(one.top1), ".", markersize=3.5, color=colour, alpha=0.7)
    axes.plot([mean], [row], "o", markersize=5, color=colour)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def trade_off_plots(result: dict[str, Any]) -> list[Plot]:
    """Fig. 4: overhead against accuracy, each method named, with those that no other beats joined by a line."""
    points = from_json(result)
    if not points:
        return []
    sources = ", ".join(union([[entry["source"]] for entry in result["results"]]))
    optimal = pareto_optimal(points)
    told = "; ".join(
        f"{point.name} {point.percent:+.1f} % and {point.accuracy:.2f} %{', Pareto-optimal' * best}"
        for point, best in zip(points, optimal, strict=True)
    )
    batch = result["setting"]["batch"]

    def draw(theme: Theme) -> Figure:
        return _trade_off(points, optimal, f"batch {batch}; accuracies: {sources}; filled: Pareto-optimal", theme)

    caption = f"Overhead measured at batch {batch}, with the interval of its median; accuracies: {sources}. "
    caption += "The closer to the upper left corner, the better; the line joins the Pareto-optimal methods, whose "
    caption += "points are filled."
    return [Plot("overhead-accuracy", caption, f"Overhead and accuracy of every method. {told}.", draw)]


def _trade_off(points: list[Point], optimal: list[bool], heading: str, theme: Theme) -> Figure:
    figure, (axes,) = new_figure(7.2, 4.8, theme)
    axes.spines["left"].set_visible(True)
    overhead_axis(axes, min(point.low for point in points), max(point.high for point in points) * 1.3)
    front = sorted((point.percent, point.accuracy) for point, best in zip(points, optimal, strict=True) if best)
    axes.plot(*zip(*front, strict=True), color=theme.soft, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    for point, best in zip(points, optimal, strict=True):
        colour = theme.ours if is_ours(point.name) else theme.other
        across = [[point.percent - point.low], [point.high - point.percent]]
        axes.errorbar(
            point.percent, point.accuracy, xerr=across, yerr=point.deviation, fmt="o", color=colour,
            markersize=7 if best else 5, markerfacecolor=colour if best else theme.page,
            elinewidth=0.9, capsize=0, zorder=3,
        )  # fmt: skip
    axes.margins(y=0.12)
    axes.grid(color=theme.rule, linewidth=0.6)
    title(axes, heading, theme)
    name_axis(axes, "overhead A_O, % (linear from −10 to 10)", theme)
    axes.set_ylabel("top-1 accuracy, %", fontsize=SMALL, color=theme.soft)
    name_points(figure, axes, points, optimal, theme)
    return figure


def name_points(figure: Figure, axes: Axes, points: list[Point], optimal: list[bool], theme: Theme) -> list[Box]:
    """Write each point's name where it covers nothing, with a line to the point where that is far; places in pixels."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()  # so that the axes have their place
    figure.set_layout_engine("none")
    centres = [tuple(axes.transData.transform((point.percent, point.accuracy))) for point in points]
    texts = [
        axes.text(
            0, 0, point.name, transform=None, fontsize=SMALL, va="bottom", zorder=4, parse_math=False,
            color=theme.ours if is_ours(point.name) else theme.ink, fontweight="bold" if best else "normal",
        )
        for point, best in zip(points, optimal, strict=True)
    ]  # fmt: skip
    extents = [text.get_window_extent(renderer) for text in texts]
    area = axes.get_window_extent(renderer)
    bars = []
    for point, (x, y) in zip(points, centres, strict=True):
        (left, _), (right, _) = axes.transData.transform([(point.low, point.accuracy), (point.high, point.accuracy)])
        bars.append(Box(left, y - 2, right, y + 2))
        spread = point.deviation or 0.0
        (_, low), (_, high) = axes.transData.transform(
            [(point.percent, point.accuracy - spread), (point.percent, point.accuracy + spread)]
        )
        bars.append(Box(x - 2, low, x + 2, high))
    front = sorted(centre for centre, best in zip(centres, optimal, strict=True) if best)
    for (x, y), (to_x, to_y) in itertools.pairwise(front):
        steps = [(x + part / 40 * (to_x - x), y + part / 40 * (to_y - y)) for part in range(41)]
        bars += [Box(x - 2, y - 2, x + 2, y + 2) for x, y in steps]
    radius = 0.05 * figure.dpi
    found = places(
        centres,
        [(extent.width, extent.height) for extent in extents],
        Box(*area.extents),
        radius=radius,
        obstacles=bars,
    )
    for text, box, (x, y) in zip(texts, found, centres, strict=True):
        text.set_position((box.left, box.bottom))
        near = min(max(x, box.left), box.right), min(max(y, box.bottom), box.top)
        if abs(near[0] - x) + abs(near[1] - y) > 5 * radius:
            axes.plot(*zip((x, y), near, strict=True), transform=None, color=theme.soft, linewidth=0.6, zorder=2)
    return found
