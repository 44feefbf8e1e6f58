"""The command of a suite: several values after one option, older spellings, and the command line that results name."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from inspect import cleandoc
from pathlib import Path
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand
from typer.main import get_command

from diffcore_gpu.errors import BenchmarkError

OLDER = {"--data": "--real"}
"""Spellings of earlier versions, which recorded commands have, and what they are called now."""
_COMMAND = "diffcore_gpu.benchmarks.command"
_NEGATIVE = re.compile(r"-\.?\d")


class SuiteCommand(TyperCommand):
    """A suite's command, of which every option that may be repeated also takes several values at once."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line, and keep it for the results."""
        ctx.meta[_COMMAND] = shlex.join(["diffcore", "bench", str(self.name), *map(_without_folders, args)])
        known = {spelling for parameter in self.params for spelling in parameter.opts}
        several = {
            spelling
            for parameter in self.params
            if getattr(parameter, "multiple", False)
            for spelling in parameter.opts
        }
        given = [_today(argument, known) for argument in args]
        return super().parse_args(ctx, repeated(given, several))

    def invoke(self, ctx: Any) -> Any:
        """Run the suite."""
        with needed_by(str(self.name)):
            return super().invoke(ctx)


def suite_command(name: str, function: Callable[..., None], doc: str | None) -> SuiteCommand:
    """The command that runs a suite.

    Args:
        name: after ``diffcore bench``.
        function: of the suite, with annotated parameters as Typer reads them.
        doc: what ``--help`` shows, line for line.
    """
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
    text = "\n\n".join(f"\b\n{paragraph}" for paragraph in cleandoc(doc or "").split("\n\n"))
    settings = {"help_option_names": ["-h", "--help"]}
    app.command(name, cls=SuiteCommand, help=text, context_settings=settings)(function)
    command = get_command(app)
    assert isinstance(command, SuiteCommand)
    return command


@contextmanager
def needed_by(name: str) -> Iterator[None]:
    """Name the package that a suite lacks, and how to install it.

    Raises:
        BenchmarkError: it is not one of our own modules.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("diffcore_gpu"):
            raise
        raise BenchmarkError(
            f"{name} needs {error.name}, which is not installed: pip install 'diffcore-gpu[bench,demo]' installs it."
        ) from error


def repeated(arguments: Sequence[str], several: Collection[str]) -> list[str]:
    """``--batch 16 32`` as ``--batch 16 --batch 32``.

    Args:
        arguments: of a command line.
        several: options that take more than one value.
    """
    found: list[str] = []
    option, filled = None, False
    for argument in arguments:
        if argument in several:
            option, filled = argument, False
        elif argument.startswith("-") and not _NEGATIVE.match(argument):
            option = None
        elif option is not None:
            if filled:
                found.append(option)
            filled = True
        found.append(argument)
    return found


def _today(argument: str, known: Collection[str]) -> str:
    """An option as it is called now, where the command has it."""
    option, equals, value = argument.partition("=")
    newer = OLDER.get(option)
    return argument if newer not in known else f"{newer}{equals}{value}"


def _without_folders(argument: str) -> str:
    """An absolute path by its last part alone."""
    option, equals, value = argument.partition("=")
    if argument.startswith("--") and equals:
        return f"{option}={_without_folders(value)}"
    return Path(argument).name if argument.startswith(("/", "~")) else argument


class Output(NamedTuple):
    """Where the result of a run goes.

    Attributes:
        command: the command line, without paths of the machine.
        json: the file; None: none.
        budget_minutes: after which nothing more is begun; None: no end.
    """

    command: str
    json: Path | None = None
    budget_minutes: float | None = None


def output_of(context: typer.Context, json: Path | None, budget_minutes: float | None = None) -> Output:
    """Where the result goes of the command that runs in `context`."""
    return Output(context.meta[_COMMAND], json, budget_minutes)
