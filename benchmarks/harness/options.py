"""The options that several suites have, each declared once, and how their values are read and refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from diffcore_gpu.baselines import BASELINES
from diffcore_gpu.benchmarks.harness.random_data import DTYPES, FORMATS
from diffcore_gpu.benchmarks.paper import OURS
from diffcore_gpu.errors import BenchmarkError, nearest


def one_of(kind: str, known: Iterable[str]) -> Callable[[Any], str]:
    """A parser of an option: a name out of `known`, refused with the nearest ones."""
    names = tuple(known)

    def check(name: Any) -> str:
        if name not in names:
            raise typer.BadParameter(f"there is no {kind} {name!r}; {nearest(name, names)}")
        return str(name)

    return check


def positive(text: Any) -> int:
    """A parser of an option: an integer from 1."""
    return _whole_number(str(text), 1)


def not_negative(text: Any) -> int:
    """A parser of an option: an integer from 0."""
    return _whole_number(str(text), 0)


def with_spread(text: Any) -> int:
    """A parser of ``--repeats``: an integer from 2."""
    repeats = positive(text)
    if repeats < 2:
        raise typer.BadParameter("--repeats must be 2 or more, so that there is a spread.")
    return repeats


def _whole_number(text: str, low: int) -> int:
    if not text.isdecimal() or int(text) < low:
        raise typer.BadParameter(f"{text!r} is not a whole number from {low}.")
    return int(text)


def option(name: str, about: str, metavar: str, parser: Callable[[Any], Any] | None = None) -> Any:
    """An option by its name with the dashes, what it is, what stands for its value, and how that is read."""
    return typer.Option(name, help=about, metavar=metavar, parser=parser)


def number(name: str, about: str, parser: Callable[[Any], Any] = positive) -> Any:
    """An option whose value is an integer, from 1 unless its parser says otherwise."""
    return option(name, about, "N", parser)


def choice(name: str, about: str, kind: str, known: Iterable[str]) -> Any:
    """An option whose value is a name out of `known`; all of them stand behind what it is."""
    names = tuple(known)
    return option(name, f"{about}: {', '.join(names)}.", "NAME", one_of(kind, names))


def flag(name: str, about: str) -> Any:
    """An option without a value."""
    return typer.Option(name, help=about)


def folder(name: str, about: str) -> Any:
    """An option whose value is a folder."""
    return option(name, about, "FOLDER")


def file(name: str, about: str) -> Any:
    """An option whose value is a file."""
    return option(name, about, "FILE")


_DEVICES = ("cpu", "cuda")
_METHODS = (OURS, *BASELINES)
_KEPT = "Also write figures and samples here"

Device = Annotated[str, choice("--device", "That is measured", "device", _DEVICES)]
Batch = Annotated[int, number("--batch", "Images of a batch.")]
BatchSizes = Annotated[list[int], number("--batch", "Images of a batch; one or more sizes.")]
Size = Annotated[int, number("--size", "Height and width.")]
Sizes = Annotated[list[int], number("--size", "Height and width; one or more.")]
Dtype = Annotated[str, choice("--dtype", "Of the images", "dtype", DTYPES)]
Dtypes = Annotated[list[str], choice("--dtype", "Of the images, one or more", "dtype", DTYPES)]
Format = Annotated[str, choice("--format", "Memory format", "memory format", FORMATS)]
Formats = Annotated[list[str], choice("--format", "Memory format, one or more", "memory format", FORMATS)]
Methods = Annotated[list[str], choice("--methods", "One or more", "method", _METHODS)]
Model = Annotated[str, option("--model", "Of torchvision or timm.", "NAME")]
Repeats = Annotated[int, number("--repeats", "Measured rounds.")]
Spread = Annotated[int, number("--repeats", "Measured rounds, 2 or more.", with_spread)]
Threads = Annotated[int | None, number("--threads", "Of torch in this process. Default: as it chooses.")]
Real = Annotated[Path | None, folder("--real", "ImageFolder of real images, in place of made ones.")]
Store = Annotated[Path | None, folder("--store", "The counterparts of --real.")]
Json = Annotated[Path | None, file("--json", f"{_KEPT}.")]
ResumableJson = Annotated[Path | None, file("--json", f"{_KEPT}; a run that was cut off goes on from them.")]
BudgetMinutes = Annotated[
    float | None, option("--budget-minutes", "Begin nothing more after this time; run again to go on.", "N")
]


def device_of(name: str) -> torch.device:
    """The device that ``--device`` names.

    Raises:
        BenchmarkError: it is a GPU, and torch finds none.
    """
    if name == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise BenchmarkError("--device cuda measures a GPU, and torch finds none here; use --device cpu.")
    return torch.device("cuda", torch.cuda.current_device())


def use_threads(threads: int | None) -> int:
    """Let torch compute with so many threads (None: as many as it does); how many these are."""
    if threads is not None:
        torch.set_num_threads(threads)
    return torch.get_num_threads()
