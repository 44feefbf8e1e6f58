"""The plots of every suite that has some: steps, accuracies, generation and the loader."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from diffcore_gpu.benchmarks import paper
from diffcore_gpu.benchmarks.harness.measure import deviation, quantiles
from diffcore_gpu.benchmarks.harness.result_file import complete
from diffcore_gpu.benchmarks.paper import OURS, VANILLA
from diffcore_gpu.benchmarks.reporting.accuracy_tables import Point, Reached, from_json, pareto_optimal, reached
from diffcore_gpu.benchmarks.reporting.collection import Loaded
from diffcore_gpu.benchmarks.reporting.plots import (
    DARK,
    LIGHT,
    SMALL,
    Box,
    Plot,
    Theme,
    below_panels,
    is_ours,
    name_axis,
    name_rows,
    new_figure,
    overhead_axis,
    places,
    title,
    vertical_rules,
)
from diffcore_gpu.benchmarks.reporting.suite_tables import has_filter
from diffcore_gpu.benchmarks.reporting.tables import union
from diffcore_gpu.benchmarks.steps.results import AtBatch, at_batches

_ROW = 0.235
"""Inches that a row takes."""
_STAGES = ("load", "mix", "train")


def overhead_plots(result: dict[str, Any]) -> list[Plot]:
    """A_O of every method with its interval, a panel for each batch size, the paper's beside."""
    found = [at for at in at_batches(result["results"]) if at.overheads]
    if not found:
        return []
    methods = _sorted_methods(found)

    def draw(theme: Theme) -> Figure:
        figure, panels = new_figure(1.7 + 2.5 * len(found), 1.1 + _ROW * len(methods), theme, len(found))
        for at, axes in zip(found, panels, strict=True):
            _overhead_panel(axes, at, methods, theme)
        name_rows(panels[0], methods, theme)
        _overhead_key(figure, theme)
        return figure

    told = "; ".join(
        f"batch {at.batch}: " + ", ".join(f"{name} {one.percent:+.1f} %" for name, one in at.overheads.items())
        for at in found
    )
    caption = "A_O with the interval of its median, corrected for the number of comparisons: linear from −10 to 10 %, "
    caption += "logarithmic beyond. Noise: the interval holds 0."
    return [Plot("overhead", caption, f"Overhead of every method. {told}.", draw)]


def _overhead_key(figure: Figure, theme: Theme) -> None:
    """What the marks mean, below the panels."""
    measured = Line2D([], [], color=theme.other, marker="o", markersize=4.5, linewidth=1.4, label="measured")
    noise = Line2D([], [], color=theme.other, marker="o", markersize=4.5, linewidth=1.4, label="noise")
    noise.set_markerfacecolor(theme.page)
    papers = Line2D([], [], color=theme.paper, marker="D", markersize=4, linewidth=0, label="paper")
    papers.set_fillstyle("none")
    below_panels(figure, [measured, noise, papers], theme)


def _sorted_methods(found: Sequence[AtBatch]) -> list[str]:
    """From the lowest to the highest overhead at the first batch size that has it."""
    first: dict[str, float] = {}
    for at in found:
        for name, one in at.overheads.items():
            first.setdefault(name, one.percent)
    return sorted(first, key=lambda name: (first[name], name))


def _overhead_panel(axes: Axes, at: AtBatch, methods: list[str], theme: Theme) -> None:
    edges = [0.0]
    for row, name in enumerate(methods):
        theirs = paper.at_batch(paper.OVERHEAD, name, at.batch)
        if theirs is not None:
            axes.plot([theirs], [row], "D", markersize=4, color=theme.paper, fillstyle="none", markeredgewidth=1)
            edges.append(theirs)
        found = at.overheads.get(name)
        if found is None:
            continue
        colour = theme.ours if is_ours(name) else theme.other
        axes.plot([found.low, found.high], [row, row], color=colour, linewidth=1.4, solid_capstyle="butt")
        fill = theme.page if found.noise else colour
        axes.plot([found.percent], [row], "o", markersize=4.5, color=colour, markerfacecolor=fill)
        edges += [found.low, found.high]
    overhead_axis(axes, min(edges), max(edges))
    axes.axvline(0, color=theme.soft, linewidth=0.8, zorder=0)
    vertical_rules(axes, theme)
    title(axes, f"batch {at.batch}", theme)
    name_axis(axes, "overhead, %", theme)


def batch_time_plots(result: dict[str, Any]) -> list[Plot]:
    """Seconds of a batch by stages, a panel for each batch size."""
    found = [at for at in at_batches(result["results"]) if at.arms]
    if not found:
        return []
    methods = union(at.arms for at in found)
    methods.sort(key=lambda name: (not name.startswith(VANILLA), name != OURS))

    def draw(theme: Theme) -> Figure:
        figure, panels = new_figure(1.7 + 2.5 * len(found), 1.1 + 1.25 * _ROW * len(methods), theme, len(found))
        for at, axes in zip(found, panels, strict=True):
            _stages_panel(axes, at, methods, theme)
        name_rows(panels[0], methods, theme)
        below_panels(figure, panels[0].get_legend_handles_labels()[0], theme)
        return figure

    told = "; ".join(
        f"batch {at.batch}: "
        + ", ".join(f"{name} {arm.time['median_ms'] / 1e3:.3f} s" for name, arm in at.arms.items())
        for at in found
    )
    caption = (
        "Median seconds of each stage; the line is the step's p10–p90. Where the paper states seconds, they stand "
    )
    caption += "at the right."
    return [Plot("batch-time", caption, f"Seconds that a batch takes under every method. {told}.", draw)]


def _stages_panel(axes: Axes, at: AtBatch, methods: list[str], theme: Theme) -> None:
    colours = {"load": theme.load, "mix": theme.mix, "train": theme.train}
    rows = [row for row, name in enumerate(methods) if name in at.arms]
    left = [0.0] * len(rows)
    for stage in _STAGES:
        widths = [at.arms[methods[row]].stages[f"{stage}_ms"] / 1e3 for row in rows]
        axes.barh(rows, widths, height=0.62, left=left, color=colours[stage], label=stage)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    longest = 0.0
    for row in rows:
        time = at.arms[methods[row]].time
        low, high = time["p10_ms"] / 1e3, time["p90_ms"] / 1e3
        axes.plot([low, high], [row, row], color=theme.ink, linewidth=1, solid_capstyle="butt")
        longest = max(longest, high, left[rows.index(row)])
    for row in rows:
        theirs = paper.at_batch(paper.BATCH_SECONDS, methods[row], at.batch)
        if theirs is not None:
            axes.text(
                longest * 1.04, row, f"paper {theirs:.2f} s", color=theme.paper, fontsize=SMALL - 1, va="center"
            )  # fmt: skip
    stated = any(paper.at_batch(paper.BATCH_SECONDS, name, at.batch) is not None for name in methods)
    axes.set_xlim(0, longest * (1.5 if stated else 1.05))
    axes.locator_params(axis="x", nbins=4)
    vertical_rules(axes, theme)
    title(axes, f"batch {at.batch}", theme)
    name_axis(axes, "seconds", theme)


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

    told = ", ".join(f"{one.arm} on {one.split} {statistics.fmean(one.top1):.2f} %" for one in found)
    caption = "Mean (large point) ± standard deviation (line) over the seeds (small points); a diamond is the paper's."
    return Plot(name, caption, f"Top-1 accuracy of every arm. {told}.", draw)


def _arm(axes: Axes, one: Reached, row: int, theirs: float | None, theme: Theme) -> None:
    colour = theme.ours if is_ours(one.arm) else theme.other
    mean, spread = statistics.fmean(one.top1), deviation(one.top1)
    if theirs is not None:
        axes.plot([theirs], [row], "D", markersize=4.5, color=theme.paper, fillstyle="none", markeredgewidth=1)
    if spread is not None:
        axes.plot([mean - spread, mean + spread], [row, row], color=colour, linewidth=1.4, solid_capstyle="butt")
        axes.plot(one.top1, [row + 0.24] * len(one.top1), ".", markersize=3.5, color=colour, alpha=0.7)
    axes.plot([mean], [row], "o", markersize=5, color=colour)


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


def generation_plots(result: dict[str, Any]) -> list[Plot]:
    """Seconds, generated images and discards against the share of the samples that get counterparts."""
    runs = sorted(result["results"], key=lambda run: int(run["percent"]))
    if not runs:
        return []
    percent = [run["percent"] for run in runs]
    lines = {"seconds": [run["wall_seconds"] for run in runs], "generated": [run["generated"] for run in runs]}
    if has_filter(result):
        lines["discarded, %"] = [100 * run["discarded"] / max(run["generated"], 1) for run in runs]

    def draw(theme: Theme) -> Figure:
        figure, panels = new_figure(2.6 * len(lines), 2.6, theme, len(lines), share_rows=False)
        for (name, values), axes in zip(lines.items(), panels, strict=True):
            axes.plot(percent, values, "o-", color=theme.ours, linewidth=1.2, markersize=4)
            axes.set_ylim(0, 100 if "%" in name else max(values) * 1.1 or 1)
            axes.set_xlim(0, 105)
            axes.grid(color=theme.rule, linewidth=0.6)
            title(axes, name, theme)
            name_axis(axes, "augmented, %", theme)
        return figure

    told = "; ".join(
        f"at {share} %: " + ", ".join(f"{name} {values[place]:.1f}" for name, values in lines.items())
        for place, share in enumerate(percent)
    )
    caption = "Generation against the share of the samples that get counterparts."
    return [Plot("generation", caption, f"{caption} {told}.", draw)]


def loader_plots(result: dict[str, Any]) -> list[Plot]:
    """Images per second from every source, a panel for each number of workers."""
    parts = result["results"]
    if not parts:
        return []
    arms = union(part["arms"] for part in parts)
    ours = {name for name in arms if "PNG" not in name and name != arms[0]}

    def draw(theme: Theme) -> Figure:
        figure, panels = new_figure(2.3 + 2.6 * len(parts), 0.9 + 0.34 * len(arms), theme, len(parts))
        for part, axes in zip(parts, panels, strict=True):
            for row, name in enumerate(arms):
                if name not in part["arms"]:
                    continue
                median, low, high = quantiles(part["arms"][name]["images_per_second"])
                axes.barh(row, median, height=0.6, color=theme.ours if name in ours else theme.train)
                axes.plot([low, high], [row, row], color=theme.ink, linewidth=1, solid_capstyle="butt")
                axes.text(high, row, f"  {median:.0f}", va="center", fontsize=SMALL, color=theme.ink)
            axes.margins(x=0.18)
            axes.set_xlim(left=0)
            axes.locator_params(axis="x", nbins=4)
            vertical_rules(axes, theme)
            title(axes, f"{part['workers']} workers", theme)
            name_axis(axes, "images/s", theme)
        name_rows(panels[0], arms, theme)
        return figure

    told = "; ".join(
        f"{part['workers']} workers: "
        + ", ".join(f"{name} {quantiles(arm['images_per_second'])[0]:.0f}" for name, arm in part["arms"].items())
        for part in parts
    )
    caption = "Median images per second; the line is p10–p90."
    return [Plot("loader", caption, f"Images per second. {told}.", draw)]


PLOTS: dict[str, Callable[[dict[str, Any]], list[Plot]]] = {
    "overhead": overhead_plots,
    "batch-time": batch_time_plots,
    "overhead-accuracy": trade_off_plots,
    "loader": loader_plots,
    "train": train_plots,
    "generation": generation_plots,
}
"""The other suites are told by their tables alone."""


def pictures_of(loaded: Loaded) -> list[tuple[Plot, bytes, bytes]]:
    """The plots of a result, each with its PNG for light and for dark pages.

    Raises:
        BenchmarkError: the result lacks a field.
    """
    with complete(loaded.path, loaded.suite):
        if loaded.suite not in PLOTS:
            return []
        return [(plot, plot.png(LIGHT), plot.png(DARK)) for plot in PLOTS[loaded.suite](loaded.result)]
