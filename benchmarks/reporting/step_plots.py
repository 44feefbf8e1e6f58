"""Plots of training steps with every method: overhead with intervals (Table 6), seconds by stages (Fig. 6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from diffcore_gpu.benchmarks import paper
from diffcore_gpu.benchmarks.paper import OURS, VANILLA
from diffcore_gpu.benchmarks.reporting.plots import (
    SMALL,
    Plot,
    Theme,
    below_panels,
    is_ours,
    name_axis,
    name_rows,
    new_figure,
    overhead_axis,
    title,
    vertical_rules,
)
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
