"""Tables as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from diffcore_gpu.benchmarks.reporting.tables import Table


def markdown_table(table: Table) -> str:
    """A Markdown table, names to the left and figures to the right; title and note are not in it."""
    figures = len(table.header) - table.text_columns
    rule = ["---"] * table.text_columns + ["---:"] * figures
    lines = [_line(cells) for cells in (table.header, rule, *table.rows)]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(plain, cells)) + " |"


def plain(text: str) -> str:
    """Text that Markdown shows as it is where it stands in a cell: no new cell, line or tag begins in it."""
    for character, written in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|")):
        text = text.replace(character, written)
    return " ".join(text.split())


def code(text: str) -> str:
    """Text between backticks, more of them than it holds in a row."""
    fence = "`"
    while fence in text:
        fence += "`"
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{' '.join(text.split())}{space}{fence}"
