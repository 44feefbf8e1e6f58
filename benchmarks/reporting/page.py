"""The HTML page of a report: contents, and for each result its tables, plots and how it was measured."""

from __future__ import annotations

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
from diffcore_gpu.htmlreport.images import Picture, embed_png
from diffcore_gpu.htmlreport.page import render

_LONGEST = 20_000
"""Characters of one text: a note names every failure, and a plot is told in words."""
_CSS_PIXELS = 96
"""Of an inch."""
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


@dataclass(frozen=True)
class _Figure:
    caption: str
    alt: str
    light: Picture
    dark: Picture

    @property
    def width(self) -> int:
        return round(self.light.width * _CSS_PIXELS / DPI)

    @property
    def height(self) -> int:
        return round(self.light.height * _CSS_PIXELS / DPI)

    @property
    def least(self) -> int:
        """The width below which it is not shrunk."""
        return round(_SMALLEST * self.width)


@dataclass(frozen=True)
class _Result:
    number: int
    device: str
    file: str
    link: str | None
    command: str
    versions: str
    tables: Sequence[Table]
    plots: Sequence[_Figure]
    facts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class _Suite:
    name: str
    told: str
    results: Sequence[_Result]


def page(sections: Sequence[Section], path: Path) -> str:
    """The whole page; it needs no other file, no network and no script.

    Args:
        sections: in the order of `collect`.
        path: where it will lie, for links to the results.
    """
    numbered = enumerate(sections, 1)
    suites = [
        _Suite(name, SUITES[name][1], [_result(section, number, path) for number, section in group])
        for name, group in itertools.groupby(numbered, lambda item: item[1].loaded.suite)
    ]
    devices = {result.device for suite in suites for result in suite.results}
    counts = ((len(sections), "result"), (len(suites), "suite"), (len(devices), "device"))
    results, of_suites, on_devices = (f"{number} {what}{'' if number == 1 else 's'}" for number, what in counts)
    return render(
        "diffcore_gpu.benchmarks.reporting",
        "benchmarks.html",
        functions={"is_ours": _is_ours},
        longest=_LONGEST,
        title="diffcore-gpu: results of the benchmarks",
        lead=f"{results} of {of_suites} on {on_devices}.",
        suites=suites,
        FAILED=FAILED,
        NOISE=NOISE,
    )


def _result(section: Section, number: int, page_path: Path) -> _Result:
    loaded = section.loaded
    environment = loaded.result["environment"]
    return _Result(
        number=number,
        device=device(environment),
        file=loaded.shown,
        link=_link(loaded, page_path),
        command=str(environment["command"]),
        versions=versions(environment),
        tables=section.tables,
        plots=[
            _Figure(plot.caption, plot.alt, embed_png(light), embed_png(dark)) for plot, light, dark in section.pictures
        ],
        facts=list(facts(loaded.result))[1:],
    )


def _link(loaded: Loaded, page_path: Path) -> str | None:
    """To the file, where it lies below the page or both lie below the working folder."""
    file, folder = loaded.path.resolve(), page_path.resolve().parent
    near = file.is_relative_to(folder) or all(path.is_relative_to(Path.cwd()) for path in (file, folder))
    return quote(Path(os.path.relpath(file, folder)).as_posix()) if near else None


def _is_ours(names: Sequence[str]) -> bool:
    return any(name == OURS or name.startswith((f"{OURS}-", "diffcore default", "diffcore, ")) for name in names)
