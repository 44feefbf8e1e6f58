"""The command line of a suite: how it is read, and the options that several have."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch

from diffcore_gpu.errors import BenchmarkError, nearest


class SuiteParser(argparse.ArgumentParser):
    """The parser of one suite, with ``--help`` from the module's docstring.

    Args:
        suite: its name after ``diffcore bench``.
        doc: the module's docstring.
    """

    def __init__(self, suite: str, doc: str | None) -> None:
        super().__init__(
            prog=f"diffcore bench {suite}",
            description=doc,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self._suite = suite

    def parse(self, arguments: Sequence[str] | None = None) -> argparse.Namespace:
        """The options; `options.command` is the command line without paths of the machine, for the results.

        Args:
            arguments: None: those of the process.
        """
        given = list(sys.argv[1:] if arguments is None else arguments)
        options = self.parse_args(given)
        options.command = shlex.join(["diffcore", "bench", self._suite, *map(_without_folders, given)])
        return options

    def add_device(self, default: str) -> None:
        """``--device cpu`` or ``cuda``."""
        self.add_argument("--device", choices=("cpu", "cuda"), default=default, help="default: %(default)s")

    def add_json(self) -> None:
        """``--json FILE``, for suites that write their result at the end."""
        self.add_argument("--json", type=Path, default=None, help="also write figures and samples here")

    def add_resumable_json(self) -> None:
        """``--json FILE`` and ``--budget-minutes``, for `diffcore_gpu.benchmarks.harness.runs`."""
        self.add_argument(
            "--json",
            type=Path,
            default=None,
            help="also write figures and samples here; a run that was cut off goes on from them",
        )
        self.add_argument(
            "--budget-minutes", type=float, default=None, help="begin nothing more after this time; run again to go on"
        )


def _without_folders(argument: str) -> str:
    """An absolute path by its last part alone."""
    option, equals, value = argument.partition("=")
    if argument.startswith("--") and equals:
        return f"{option}={_without_folders(value)}"
    return Path(argument).name if argument.startswith(("/", "~")) else argument


def one_of(kind: str, known: Iterable[str]) -> Callable[[str], str]:
    """A type for `add_argument`: a name out of `known`, refused with the nearest ones."""
    names = tuple(known)

    def check(name: str) -> str:
        if name not in names:
            raise argparse.ArgumentTypeError(f"there is no {kind} {name!r}; {nearest(name, names)}")
        return name

    return check


def positive(text: str) -> int:
    """A type for `add_argument`: an integer from 1."""
    return _whole_number(text, 1)


def not_negative(text: str) -> int:
    """A type for `add_argument`: an integer from 0."""
    return _whole_number(text, 0)


def _whole_number(text: str, low: int) -> int:
    if not text.isdecimal() or int(text) < low:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low}.")
    return int(text)


def device_of(options: argparse.Namespace) -> torch.device:
    """The device that ``--device`` names.

    Raises:
        BenchmarkError: it is a GPU, and torch finds none.
    """
    if options.device == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise BenchmarkError("--device cuda measures a GPU, and torch finds none here; use --device cpu.")
    return torch.device("cuda", torch.cuda.current_device())
