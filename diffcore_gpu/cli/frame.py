"""The commands' common frame: registration, `--version`, and how errors become exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from diffcore_gpu import __version__
from diffcore_gpu.cli import (
    bench,
    convert,
    demo,
    generate,
    inspect,
    merge,
    pack,
    profile,
    prune,
    pull,
    push,
    rebind,
    verify,
)
from diffcore_gpu.cli.console import say
from diffcore_gpu.errors import DiffcoreError

# One line adds a command; the first line of the function's docstring is its description in `diffcore --help`.
_COMMANDS: dict[str, Callable[..., None]] = {
    "pack": pack.pack,
    "generate": generate.generate,
    "inspect": inspect.inspect,
    "verify": verify.verify,
    "merge": merge.merge,
    "rebind": rebind.rebind,
    "prune": prune.prune,
    "convert": convert.convert,
    "push": push.push,
    "pull": pull.pull,
    "demo": demo.demo,
}

# Plain help and errors: rich would read brackets in file names as its own markup and break long paths into boxes.
app = typer.Typer(
    name="diffcore",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _name, _function in _COMMANDS.items():
    app.command(_name)(_function)
app.command("profile", cls=profile.ProfileCommand)(profile.profile)
app.add_typer(bench.app, name="bench")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"diffcore {__version__}")
        raise typer.Exit


@app.callback()
def _frame(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Mix generated counterparts into training batches: make, check and look at counterpart stores."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `diffcore`.

    Args:
        arguments: the command line without the program's name; None: that of the process.

    Returns:
        The exit code: 0 done, 1 failure (one sentence on stderr says what; nothing does where the reader of stdout
        went away), 2 bad usage, 130 interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a file name need not fit the terminal's encoding
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # `diffcore … | head`: whatever is still buffered has no reader; Python would complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _run(arguments: Sequence[str] | None) -> int:
    try:
        app(arguments, prog_name="diffcore")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except DiffcoreError as error:
        return _fail(str(error), getattr(error, "details", ()))
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.errno is None:
            raise
        where = f"{os.fsdecode(error.filename)}: " if error.filename is not None else ""
        return _fail(f"{where}{error.strerror}.")
    except KeyboardInterrupt:
        return 130
    return 0


def _fail(message: str, details: Sequence[str] = ()) -> int:
    say(f"diffcore: {message}")
    for detail in details:
        say(f"  {detail}")
    return 1
