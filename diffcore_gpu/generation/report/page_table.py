"""Tables of the report's page: their frame, which scrolls by itself, and their cells."""

from __future__ import annotations

import math
from collections.abc import Sequence

from diffcore_gpu.generation.report.text import count, percent
from diffcore_gpu.htmlreport.page import escaped

_LONG = 14  # rows above which a table scrolls inside its frame


def table(name: str, caption: str, columns: Sequence[tuple[str, str]], rows: Sequence[str]) -> str:
    """A table that a reader can sort and scroll.

    Args:
        name: for those who do not see it.
        caption: what stands above it; markup.
        columns: name and kind of each; "text", "number", or "picture", which is not sorted.
        rows: the rows; markup.
    """
    head = "".join(
        f'<th scope="col"{" class=number" if kind == "number" else ""}'
        f"{'' if kind == 'picture' else f' data-sort={kind}'}>{escaped(title)}</th>"
        for title, kind in columns
    )
    return (
        f'<div class="scroll{" long" if len(rows) > _LONG else ""}" role="region" aria-label="{escaped(name)}" '
        f'tabindex="0"><table class="sortable"><caption><span>{caption}</span></caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def number_cell(number: int) -> str:
    """A cell with a count."""
    return value_cell(number, count(number))


def percent_cell(value: float) -> str:
    """A cell with a percentage."""
    return value_cell(value, percent(value))


def value_cell(value: float, shown: str) -> str:
    """A cell with a number that is sorted by its value, and shown as text."""
    data = "" if math.isnan(value) else f"{value:d}" if isinstance(value, int) else f"{value:.6f}"
    return f'<td class="number" data-value="{data}">{escaped(shown)}</td>'
