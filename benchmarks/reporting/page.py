"""The HTML page of a report: contents, and for each result its tables, plots and how it was measured."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from diffcore_gpu.benchmarks.paper import OURS
from diffcore_gpu.benchmarks.reporting.collection import Loaded
from diffcore_gpu.benchmarks.reporting.plots import DPI, Plot
from diffcore_gpu.benchmarks.reporting.provenance import device, facts, versions
from diffcore_gpu.benchmarks.reporting.tables import FAILED, NOISE, Table
from diffcore_gpu.benchmarks.suites import SUITES
from diffcore_gpu.documents import resolved
from diffcore_gpu.htmlreport.images import embed_png
from diffcore_gpu.htmlreport.page import render

_LONGEST = 20_000
"""Characters of one text: a note names every failure, and a plot is told in words."""
_CSS_DPI = 96
_SMALLEST = 0.68
"""A plot is shrunk so far on a narrow page, where its text can still be read, and scrolls beyond."""


@dataclass(frozen=True)
class Section:
    """One result on the page.

    Attributes:
        loaded: the result.
        tables: that are drawn from it.
        pictures: its plots, each with a PNG for light and for dark pages, both of one size.
    """

    loaded: Loaded
    tables: list[Table]
    pictures: list[tuple[Plot, bytes, bytes]]


def page(sections: Sequence[Section], path: Path) -> str:
    """The whole page; it needs no other file, no network and no script.

    Args:
        sections: in the order of `collect`.
        path: where it will lie, for links to the results.
    """
    suites = [
        (name, SUITES[name][1], list(group))
        for name, group in itertools.groupby(enumerate(sections, 1), lambda item: item[1].loaded.suite)
    ]
    devices = {device(section.loaded.result["environment"]) for section in sections}
    counts = ((len(sections), "result"), (len(suites), "suite"), (len(devices), "device"))
    results, of_suites, on_devices = (f"{number} {what}{'' if number == 1 else 's'}" for number, what in counts)
    return render(
        "diffcore_gpu.benchmarks.reporting",
        "benchmarks.html",
        functions={"device": device, "embed_png": embed_png, "facts": facts, "is_ours": _is_ours, "versions": versions},
        longest=_LONGEST,
        title="diffcore-gpu: results of the benchmarks",
        lead=f"{results} of {of_suites} on {on_devices}.",
        suites=suites,
        link=functools.partial(_link, folder=resolved(path).parent),
        failed=FAILED,
        noise=NOISE,
        css_pixel=DPI / _CSS_DPI,
        smallest=_SMALLEST,
    )


def _link(loaded: Loaded, folder: Path) -> str | None:
    """To the file, where it lies below the page's folder or both lie below the working folder."""
    file = resolved(loaded.path)
    near = file.is_relative_to(folder) or all(path.is_relative_to(Path.cwd()) for path in (file, folder))
    return quote(Path(os.path.relpath(file, folder)).as_posix()) if near else None


def _is_ours(names: Sequence[str]) -> bool:
    return any(name == OURS or name.startswith((f"{OURS}-", "diffcore default", "diffcore, ")) for name in names)
