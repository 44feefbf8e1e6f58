"""`diffcore bench`: the benchmark suites, each a command of its own that is imported when it is asked for."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from diffcore_gpu.benchmarks.suites import SUITES, load_suite
from diffcore_gpu.errors import nearest


class SuiteGroup(TyperGroup):
    """The commands of all suites, listed without importing any."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of the suites."""
        return list(SUITES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a suite."""
        if cmd_name not in SUITES:
            raise typer.BadParameter(
                f"there is no suite {cmd_name!r}; {nearest(cmd_name, SUITES)}", ctx=ctx, param_hint="SUITE"
            )
        return load_suite(cmd_name)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """What each suite measures."""
        with formatter.section("Suites"):
            formatter.write_dl([(name, what) for name, (_, what) in SUITES.items()])


app = typer.Typer(
    cls=SuiteGroup,
    invoke_without_command=True,
    subcommand_metavar="SUITE [OPTIONS]",
    epilog="`diffcore bench SUITE --help` tells the options of one.",
)


@app.callback()
def bench(context: typer.Context) -> None:
    """Measure: overhead of every method, accuracy by recipes, and more."""
    if context.invoked_subcommand is None:
        print(context.get_help())
