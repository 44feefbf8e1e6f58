"""The result files that a report is drawn from: found in files and folders, read, and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffcore_gpu.benchmarks.harness.result_file import complete, read_result
from diffcore_gpu.benchmarks.reporting.provenance import facts
from diffcore_gpu.benchmarks.suites import SUITES
from diffcore_gpu.documents import parse_json, read_regular, resolved
from diffcore_gpu.errors import BenchmarkError, nearest


@dataclass(frozen=True)
class Loaded:
    """One result file.

    Attributes:
        path: the file.
        shown: its path below the folder that was given, or its name.
        result: what it holds.
    """

    path: Path
    shown: str
    result: dict[str, Any]

    @property
    def suite(self) -> str:
        """The suite that wrote it."""
        suite: str = self.result["suite"]
        return suite


def collect(given: Sequence[Path]) -> tuple[list[Loaded], list[Path]]:
    """Read the results.

    Args:
        given: files, and folders that are searched with all folders below, except hidden ones.

    Returns:
        The results by suite, in the order of `SUITES`, and by path; and the JSON files in folders that are no result
        of any suite, such as the `store.json` of a store.

    Raises:
        BenchmarkError: a file is missing, not JSON, of another version or of an unknown suite; a file that was given
            by name is no result; there is no result at all.
    """
    found: dict[Path, Loaded] = {}
    foreign: list[Path] = []
    for path in given:
        files = _json_files(path) if path.is_dir() else [path]
        for file in files:
            if path.is_dir() and _is_foreign(file):
                foreign.append(file)
            else:
                shown = file.relative_to(path).as_posix() if path.is_dir() else file.name
                found.setdefault(resolved(file), Loaded(file, shown, _read(file)))
    if not found:
        raise BenchmarkError(f"{', '.join(map(str, given))}: there is no result of `diffcore bench` here.")
    order = list(SUITES)
    return sorted(found.values(), key=lambda one: (order.index(one.suite), one.shown, str(one.path))), foreign


def _json_files(folder: Path) -> list[Path]:
    paths = sorted(folder.rglob("*.json"))
    return [path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def _is_foreign(path: Path) -> bool:
    """Whether it is another program's JSON: a result, also one from before results had a format, has one of the two."""
    try:
        content = parse_json(read_regular(path), constants=True)
    except (OSError, ValueError):
        return False  # `read_result` says what is wrong with it
    return not isinstance(content, dict) or not {"suite", "environment"} & content.keys()


def _read(path: Path) -> dict[str, Any]:
    result = read_result(path)
    suite = result["suite"]
    if suite not in SUITES:
        raise BenchmarkError(f"{path}: holds results of {suite!r}, which is no suite; {nearest(suite, SUITES)}")
    with complete(path, suite):
        facts(result)
    return result
