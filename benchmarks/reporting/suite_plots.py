"""Which plots belong to which suite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diffcore_gpu.benchmarks.reporting.accuracy_plots import trade_off_plots, train_plots
from diffcore_gpu.benchmarks.reporting.collection import Loaded, complete
from diffcore_gpu.benchmarks.reporting.data_plots import generation_plots, loader_plots
from diffcore_gpu.benchmarks.reporting.plots import DARK, LIGHT, Plot
from diffcore_gpu.benchmarks.reporting.step_plots import batch_time_plots, overhead_plots

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
