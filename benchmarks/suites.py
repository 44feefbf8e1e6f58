"""The suites by name, each with the line that `diffcore bench` shows."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from diffcore_gpu.benchmarks.harness.command import SuiteCommand, needed_by, suite_command

SUITES = {
    "overhead": ("steps.overhead", "what every method adds to a training step: Table 6 of the paper"),
    "batch-time": ("steps.batch_time", "seconds that one batch takes under every method, by stages: Fig. 6"),
    "overhead-accuracy": ("steps.overhead_accuracy", "overhead against accuracy of every method: Fig. 4"),
    "batch-gallery": ("gallery.batch_gallery", "a picture of the same batch under every method: Figs. 10-15"),
    "loader": ("loader.loader", "a store against the folder of PNG files that the published code trains from"),
    "train": ("training.train", "accuracy of any method and model, by recipes: Tables 2-5, 7 and 8"),
    "report": ("reporting.report", "an HTML page, plots and the README's tables from the results of any runs"),
    "peers": ("ops.peers", "the mix alone against torchvision, kornia and timm"),
    "bandwidth": ("ops.bandwidth", "the mix on a GPU against the GPU's own copy"),
    "host-overhead": ("ops.host_overhead", "what one call of the mix costs the host"),
    "geometry": ("ops.geometry", "the fused crop and mix against torchvision's preprocessing"),
    "residency": ("ops.residency", "counterparts in device memory, in host memory and on disk"),
    "generation": ("generation.generation", "generation time and discards: Figs. 7 and 8"),
    "store-access": ("loader.store_access", "opening, writing and reading stores"),
    "codecs": ("loader.codecs", "what the codecs of a store cost and save"),
    "smoke": ("ops.smoke", "whether the mix is right on this device, in seconds"),
}
"""The module of each suite, whose `main` is the suite, and what it measures."""


def load_suite(name: str) -> SuiteCommand:
    """The command of a suite, imported when it is asked for.

    Args:
        name: one of `SUITES`.

    Raises:
        BenchmarkError: a package that the suite needs is not installed.
    """
    with needed_by(name):
        module = import_module(f"diffcore_gpu.benchmarks.{SUITES[name][0]}")
    return suite_command(name, module.main, module.__doc__)


def run_suite(name: str, arguments: Sequence[str]) -> None:
    """Run a suite with its command line, as `diffcore bench` does.

    Args:
        name: one of `SUITES`.
        arguments: what follows the name.

    Raises:
        BenchmarkError: a package that the suite needs is not installed; and what the suite raises.
        SystemExit: the suite refuses its command line, with the code 2.
    """
    try:
        load_suite(name).main(list(arguments), prog_name=f"diffcore bench {name}")
    except SystemExit as stop:
        if stop.code:
            raise
