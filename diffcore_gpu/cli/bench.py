"""`diffcore bench`: the benchmark suites, each with a command line of its own."""

from __future__ import annotations

from typing import Annotated

import typer

from diffcore_gpu.benchmarks.suites import SUITES, run_suite
from diffcore_gpu.errors import nearest


def bench(
    context: typer.Context,
    suite: Annotated[
        str | None, typer.Argument(metavar="SUITE", help="One of those below.", show_default=False)
    ] = None,
) -> None:
    """Measure: overhead of every method, accuracy by recipes, and more."""
    arguments = list(context.args)
    if suite is None or suite in ("-h", "--help"):
        print(context.get_help())
        return
    if suite not in SUITES:
        raise typer.BadParameter(f"there is no suite {suite!r}; {nearest(suite, SUITES)}", param_hint="SUITE")
    run_suite(suite, arguments)


EPILOG = (
    "Suites:\n\n\b\n"
    + "\n".join(f"{name:18} {what}" for name, (_, what) in SUITES.items())
    + ("\n\n`diffcore bench SUITE --help` tells the options of one.")
)
SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
"""Everything after the suite's name is the suite's own, `--help` too."""
