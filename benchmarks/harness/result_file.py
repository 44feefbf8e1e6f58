"""The JSON file of a run: who wrote it, in which format, and how it is read back."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from diffcore_gpu.documents import parse_json, read_regular, why
from diffcore_gpu.errors import BenchmarkError, clause
from diffcore_gpu.store.durable import replace_file

FORMAT = 1
"""Of the files that this version writes and reads; it changes when a field changes its meaning."""


def new_result(suite: str, environment: Mapping[str, Any], setting: Mapping[str, Any]) -> dict[str, Any]:
    """A result without measurements.

    Args:
        suite: that measures.
        environment: what it is measured on.
        setting: what the samples depend on and a run that goes on must have in common with the one that was cut off.
    """
    return {
        "format": FORMAT,
        "suite": suite,
        "environment": dict(environment),
        "setting": dict(setting),
        "results": [],
    }


def read_result(path: Path, suite: str | None = None) -> dict[str, Any]:
    """Read a result file, which anyone may have written.

    Args:
        path: the file.
        suite: that must have written it; None: any.

    Returns:
        Its content; "suite" is a text, "results" a list of objects, "environment" and "setting" are objects, and what
        is in those is for the reader to look at (see `complete`).

    Raises:
        BenchmarkError: it is not there, not a result of this version's format, or another suite's.
    """
    try:
        result: Any = parse_json(read_regular(path), constants=True)  # a figure may be NaN, and is written so
    except FileNotFoundError:
        raise BenchmarkError(f"{path}: there is no such file.") from None
    except json.JSONDecodeError:
        raise BenchmarkError(f"{path}: is not JSON, so no result of a benchmark.") from None
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"{path}: cannot be read: {why(error)}.") from error
    found = result.get("format") if isinstance(result, dict) else None
    if type(found) is not int or not isinstance(result.get("suite"), str):
        raise BenchmarkError(f"{path}: is not a result of `diffcore bench`, or one from before results had a format.")
    if found != FORMAT:
        raise BenchmarkError(
            f"{path}: was written by another version of diffcore-gpu (format {found}; this one reads {FORMAT}); "
            "measure again, or use that version."
        )
    if suite is not None and result["suite"] != suite:
        raise BenchmarkError(f"{path}: holds results of {result['suite']}, not of {suite}.")
    with complete(path, result["suite"]):
        _check_kinds(result)
    return dict(result)


def _check_kinds(result: Mapping[str, Any]) -> None:
    kinds = {"results": list, "environment": dict, "setting": dict}
    wrong = [name for name, kind in kinds.items() if not isinstance(result[name], kind)]
    if wrong:
        raise TypeError(f"{wrong[0]} is of another kind.")
    if not all(isinstance(part, dict) for part in result["results"]):
        raise TypeError("a part of results is of another kind.")


@contextlib.contextmanager
def complete(path: Path, suite: str) -> Iterator[None]:
    """Say which file it is where the block finds that a result lacks a field, or holds another kind of value there.

    Raises:
        BenchmarkError: it does.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, StopIteration) as error:
        raise BenchmarkError(
            f"{path}: does not hold what a result of {suite} holds ({type(error).__name__}: {clause(error)}); "
            "measure again."
        ) from error


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Write beside the name and rename, lists of numbers on one line each; missing folders are made.

    Raises:
        StoreError: the disk does not take it; what was there is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, (_encode(result, "") + "\n").encode(errors="replace"))  # a path need not be Unicode


def _encode(value: Any, indent: str) -> str:
    if isinstance(value, Mapping) and value:
        inner = indent + " "
        lines = (f"{inner}{json.dumps(key, ensure_ascii=False)}: {_encode(v, inner)}" for key, v in value.items())
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        inner = indent + " "
        return "[\n" + ",\n".join(inner + _encode(item, inner) for item in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False)
