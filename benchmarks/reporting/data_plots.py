"""Plots of what comes before training: generation time and discards (Figs. 7 and 8), and the loader."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from diffcore_gpu.benchmarks.reporting.data_tables import has_filter
from diffcore_gpu.benchmarks.reporting.plots import (
    SMALL,
    Plot,
    Theme,
    name_axis,
    name_rows,
    new_figure,
    title,
    vertical_rules,
)
from diffcore_gpu.benchmarks.reporting.tables import quantiles, union


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
