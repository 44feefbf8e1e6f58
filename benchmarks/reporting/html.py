"""Tables, plots and facts as HTML; everything that comes from a file is escaped."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable
from html import escape

from diffcore_gpu.benchmarks.paper import OURS
from diffcore_gpu.benchmarks.reporting.plots import DPI, Plot
from diffcore_gpu.benchmarks.reporting.tables import FAILED, NOISE, Table

_CSS_PIXELS = 96
"""Of an inch."""
_SMALLEST = 0.68
"""A plot is shrunk so far on a narrow page, where its text can still be read, and scrolls beyond."""


def html_table(table: Table) -> str:
    """A table with its title and notes; names to the left, figures to the right, ours, noise and failures marked."""
    kinds = [' class="name"' if column < table.text_columns else "" for column in range(len(table.header))]
    head = "".join(f'<th scope="col"{kind}>{escape(text)}</th>' for kind, text in zip(kinds, table.header, strict=True))
    body = "\n".join(_row(row, table.text_columns) for row in table.rows)
    told = " ".join(filter(None, (table.note, table.footnote)))
    note = f'<p class="note">{escape(told)}</p>\n' if told else ""
    return (
        f"<h4>{escape(table.title)}</h4>\n"
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.title)}"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>\n{note}"
    )


def _row(row: tuple[str, ...], text_columns: int) -> str:
    cells = [f'<th scope="row" class="name">{escape(row[0])}</th>']
    for column, text in enumerate(row[1:], 1):
        kind = ' class="name"' if column < text_columns else ' class="failed"' if text == FAILED else ""
        cells.append(f"<td{kind}>{_cell(text)}</td>")
    ours = ' class="ours"' if any(map(_is_ours, row[:text_columns])) else ""
    return f"<tr{ours}>{''.join(cells)}</tr>"


def _cell(text: str) -> str:
    if text.endswith(NOISE):
        return f'{escape(text.removesuffix(NOISE))} <span class="noise">{escape(NOISE.strip())}</span>'
    return escape(text)


def _is_ours(text: str) -> bool:
    return text == OURS or text.startswith((f"{OURS}-", "diffcore default", "diffcore, "))


def html_figure(plot: Plot, light: bytes, dark: bytes) -> str:
    """A plot with its caption and, for who does not see it, its figures in words.

    Args:
        plot: what it shows.
        light, dark: its PNG files, both of one size.
    """
    # A PNG file has its width and height in pixels at byte 16.
    width, height = (round(pixels * _CSS_PIXELS / DPI) for pixels in struct.unpack(">II", light[16:24]))
    return (
        '<figure><div class="scroll" tabindex="0" role="region" aria-label="plot">'
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{_data_uri(dark)}">'
        f'<img src="{_data_uri(light)}" width="{width}" height="{height}" '
        f'style="min-width: {round(_SMALLEST * width)}px" alt="{escape(plot.alt)}"></picture></div>\n'
        f"<figcaption>{escape(plot.caption)}</figcaption></figure>\n"
    )


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def html_facts(facts: Iterable[tuple[str, str]]) -> str:
    """Names and texts, folded until the reader opens them."""
    lines = "\n".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts)
    return f"<details><summary>How it was measured</summary><dl>\n{lines}\n</dl></details>\n"
