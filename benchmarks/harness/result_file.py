"""The JSON file of a run: who wrote it, in which format, and how it is read back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffcore_gpu.errors import BenchmarkError

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
    """Read a result file.

    Args:
        path: the file.
        suite: that must have written it; None: any.

    Raises:
        BenchmarkError: it is not there, not a result of this version's format, or another suite's.
    """
    try:
        result: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise BenchmarkError(f"{path}: there is no such file.") from None
    except OSError as error:
        raise BenchmarkError(f"{path}: cannot be read: {error.strerror}.") from error
    except ValueError:
        raise BenchmarkError(f"{path}: is not JSON, so no result of a benchmark.") from None
    found = result.get("format") if isinstance(result, dict) else None
    if not isinstance(found, int) or "suite" not in result:
        raise BenchmarkError(f"{path}: is not a result of `diffcore bench`, or one from before results had a format.")
    if found != FORMAT:
        raise BenchmarkError(
            f"{path}: was written by another version of diffcore-gpu (format {found}; this one reads {FORMAT}); "
            "measure again, or use that version."
        )
    if suite is not None and result["suite"] != suite:
        raise BenchmarkError(f"{path}: holds results of {result['suite']}, not of {suite}.")
    return result


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Write beside the name and rename, lists of numbers on one line each; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(_encode(result, "") + "\n")
    partial.replace(path)


def _encode(value: Any, indent: str) -> str:
    if isinstance(value, Mapping) and value:
        inner = indent + " "
        lines = (f"{inner}{json.dumps(key, ensure_ascii=False)}: {_encode(v, inner)}" for key, v in value.items())
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        inner = indent + " "
        return "[\n" + ",\n".join(inner + _encode(item, inner) for item in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False)
