"""The HTML page of a report: contents, and for each result its tables, plots and how it was measured."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote

from diffcore_gpu.benchmarks.reporting.collection import Loaded
from diffcore_gpu.benchmarks.reporting.html import html_facts, html_figure, html_table
from diffcore_gpu.benchmarks.reporting.plots import Plot
from diffcore_gpu.benchmarks.reporting.provenance import device, facts, versions
from diffcore_gpu.benchmarks.reporting.style import STYLE
from diffcore_gpu.benchmarks.reporting.tables import Table
from diffcore_gpu.benchmarks.suites import SUITES


@dataclass(frozen=True)
class Section:
    """One result on the page.

    Attributes:
        loaded: the result.
        tables: that are drawn from it.
        pictures: its plots, each with a PNG for light and for dark pages.
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
    by_suite = [
        (suite, list(group)) for suite, group in itertools.groupby(sections, lambda section: section.loaded.suite)
    ]
    numbers = {id(section): number for number, section in enumerate(sections, 1)}
    contents, body = [], []
    for suite, group in by_suite:
        lines = "".join(f'<li><a href="#result-{numbers[id(section)]}">{_title(section)}</a></li>' for section in group)
        contents.append(f'<li><a href="#{suite}">{suite}</a>: {escape(SUITES[suite][1])}<ul>{lines}</ul></li>')
        body.append(f'<section id="{suite}">\n<h2>{suite}</h2>\n<p>{escape(_sentence(SUITES[suite][1]))}</p>')
        body += [_result(section, numbers[id(section)], path) for section in group]
        body.append("</section>")
    devices = {device(section.loaded.result["environment"]) for section in sections}
    lead = f"{_count(len(sections), 'result')} of {_count(len(by_suite), 'suite')} on {_count(len(devices), 'device')}."
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            "<title>diffcore-gpu: results of the benchmarks</title>",
            f"<style>{STYLE}</style></head>",
            "<body><main>",
            "<h1>diffcore-gpu: results of the benchmarks</h1>",
            f"<p>{lead} Every time is a median with its spread in brackets; the samples are in the JSON files.</p>",
            '<nav aria-label="Contents"><ul>',
            *contents,
            "</ul></nav>",
            *body,
            "</main></body></html>",
            "",
        ]
    )


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _title(section: Section) -> str:
    return f"{escape(device(section.loaded.result['environment']))} ({escape(section.loaded.shown)})"


def _result(section: Section, number: int, page_path: Path) -> str:
    loaded = section.loaded
    environment = loaded.result["environment"]
    shown = [html_table(table) for table in section.tables if not table.details]
    pictures = [html_figure(*picture) for picture in section.pictures]
    details = "".join(html_table(table) for table in section.tables if table.details)
    folded = f"<details><summary>More figures</summary>\n{details}</details>\n" if details else ""
    return (
        f'<article class="result" id="result-{number}">\n<h3>{escape(device(environment))}</h3>\n'
        f'<p class="where">{_file(loaded, page_path)}: <code>{escape(str(environment["command"]))}</code><br>'
        f"{escape(versions(environment))}</p>\n"
        f"{''.join(shown)}{''.join(pictures)}{folded}{html_facts(facts(loaded.result)[1:])}</article>"
    )


def _file(loaded: Loaded, page_path: Path) -> str:
    """The file's name, linked where it lies below the page or both lie below the working folder."""
    file, folder = loaded.path.resolve(), page_path.resolve().parent
    near = file.is_relative_to(folder) or all(path.is_relative_to(Path.cwd()) for path in (file, folder))
    if not near:
        return escape(loaded.shown)
    link = quote(Path(os.path.relpath(file, folder)).as_posix())
    return f'<a href="{link}">{escape(loaded.shown)}</a>'
