"""What the commands print: results to stdout, progress and remarks to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import typer

MAX_COLUMN = 40
"""Characters that a column of a table takes at most, unless a cell is longer and is shown whole."""


class Progress(Protocol):
    """Told how far a long piece of work is."""

    def __call__(self, done: int, total: int, /) -> None:
        """`done` of `total` units are finished."""


def printable(text: str) -> str:
    """Text with control characters escaped: a file name must not move the cursor or forge a line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def say(message: str) -> None:
    """A remark for a person, on stderr; a line in one write, which Ctrl-C cannot cut from its end."""
    sys.stderr.write(printable(message) + "\n")


def print_json(value: Mapping[str, Any]) -> None:
    """A result for a program, on stdout, in ASCII."""
    print(json.dumps(value, indent=2, allow_nan=False))


def print_table(rows: Sequence[Sequence[str]], indent: str = "  ") -> None:
    """Rows of cells in aligned columns on stdout, the first row being the heading; cells that are numbers go right.

    No column is wider than `MAX_COLUMN` for the sake of one long cell. On a terminal such a cell is cut with “…”;
    elsewhere it is whole, and pushes what follows it aside. The last column is never cut.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        cells = [[*map(_cut, row[:-1]), row[-1]] for row in cells]
    last = len(cells[0]) - 1
    numeric = [all(_is_number(row[column]) for row in cells[1:]) for column in range(last + 1)]
    widths = [min(max(len(row[column]) for row in cells), MAX_COLUMN) for column in range(last + 1)]
    for row in cells:
        line = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        )
        print((indent + "  ".join(line)).rstrip())


def _cut(cell: str) -> str:
    return cell if len(cell) <= MAX_COLUMN else cell[: MAX_COLUMN - 1] + "…"


def size_text(count: int) -> str:
    """A number of bytes for a person: ``1.5 GiB``."""
    size = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


@contextmanager
def progress_bars() -> Iterator[Callable[[str, str], Progress]]:
    """Makes progress bars on stderr from what is done and its unit; a bar appears when it is first told something.

    A bar shows the rate on a terminal; elsewhere a line is printed for each tenth of the work.
    """
    if not sys.stderr.isatty():
        yield _PlainProgress
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed or 0:.0f} {task.fields['unit']}/s")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as bars:

        def add(what: str, unit: str) -> Progress:
            task = bars.add_task(what, total=None, visible=False, unit=unit)
            return lambda done, total: bars.update(task, completed=done, total=total, visible=True)

        yield add


@contextmanager
def resumable() -> Iterator[None]:
    """Work that ``--resume`` goes on with: Ctrl-C ends the command with code 130 and says so."""
    try:
        yield
    except KeyboardInterrupt:
        say("Interrupted. Run the same command with --resume to go on.")
        raise typer.Exit(130) from None


class _PlainProgress:
    def __init__(self, what: str, unit: str) -> None:
        self._what, self._unit, self._tenth = what, unit, 0

    def __call__(self, done: int, total: int) -> None:
        tenth = 10 * done // total if total else 0
        if tenth > self._tenth:
            self._tenth = tenth
            say(f"{self._what}: {done} of {total} {self._unit}")


def _is_number(cell: str) -> bool:
    return cell.replace(".", "", 1).replace("-", "", 1).isdigit() or cell == "–"
