"""Readers of the fields of a recipe: each takes a value and returns it, or says in one sentence what it should be."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from diffcore_gpu.errors import BenchmarkError, nearest

Reader = Callable[[object, str], Any]
"""Takes the value and where it stands, for the message."""
Readers = Mapping[str, Reader]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


def read_fields(
    table: Mapping[str, Any], readers: Readers, where: str, *, needed: Sequence[str] = (), what: str = "field"
) -> dict[str, Any]:
    """The fields of a table, each checked by its reader.

    Args:
        table: as TOML has it.
        readers: of every field that may be there.
        where: the table stands, for messages.
        needed: fields that must be there.
        what: a field is called.

    Raises:
        BenchmarkError: a field is unknown, missing, or not what it should be.
    """
    for name in table:
        if name not in readers:
            raise BenchmarkError(f"{where}: there is no {what} {name!r}; {nearest(name, readers)}")
    for name in needed:
        if name not in table:
            raise BenchmarkError(f"{where}: the {what} {name!r} is missing.")
    return {name: readers[name](value, f"{where}: {name}") for name, value in table.items()}


def _refuse(where: str, wanted: str, value: object) -> BenchmarkError:
    return BenchmarkError(f"{where} must be {wanted}, not {value!r}.")


def a_text(value: object, where: str) -> str:
    """A string that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise _refuse(where, "a text", value)
    return value


def a_name(value: object, where: str) -> str:
    """A string that can name a folder."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise _refuse(where, "a name of letters, digits, '.', '_', '+' and '-'", value)
    return value


def a_switch(value: object, where: str) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise _refuse(where, "true or false", value)
    return value


def a_table(value: object, where: str) -> Mapping[str, Any]:
    """A table, whose content is not looked at."""
    if not isinstance(value, dict):
        raise _refuse(where, "a table", value)
    return value


def whole(low: int) -> Reader:
    """A reader of integers from `low`."""

    def read(value: object, where: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise _refuse(where, f"a whole number from {low}", value)
        return value

    return read


def a_number(*, low: float = -math.inf, above: float = -math.inf, high: float = math.inf) -> Reader:
    """A reader of finite numbers in [low, high] and above `above`."""
    bounds = [
        *([f"from {low:g}"] if low > -math.inf else []),
        *([f"above {above:g}"] if above > -math.inf else []),
        *([f"up to {high:g}"] if high < math.inf else []),
    ]

    def read(value: object, where: str) -> float:
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number or not low <= value <= high or value <= above:  # type: ignore[operator]
            raise _refuse(where, f"a number {' '.join(bounds)}".rstrip(), value)
        return float(value)  # type: ignore[arg-type]

    return read


def one_out_of(kind: str, known: Sequence[str]) -> Reader:
    """A reader of names out of `known`."""

    def read(value: object, where: str) -> str:
        if not isinstance(value, str):
            raise _refuse(where, "a text", value)
        if value not in known:
            raise BenchmarkError(f"{where}: there is no {kind} {value!r}; {nearest(value, known)}")
        return value

    return read


def several(reader: Reader, at_least: int = 1) -> Reader:
    """A reader of lists of different values that `reader` reads; gives a tuple."""

    def read(value: object, where: str) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) < at_least:
            raise _refuse(where, "a list" + (" that is not empty" if at_least else ""), value)
        read_ones = tuple(reader(entry, where) for entry in value)
        if any(entry in read_ones[:place] for place, entry in enumerate(read_ones)):
            raise _refuse(where, "a list without repeats", value)
        return read_ones

    return read
