"""A table as data, how its figures are put (medians, spreads, noise), how it is Markdown, and one of any result."""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from diffcore_gpu.benchmarks.harness.measure import quantiles

Name = TypeVar("Name", bound=Hashable)
MISSING = "–"
FAILED = "failed"
"""In place of a figure; the note says why."""
NOISE = " (noise)"
"""Behind a difference that is no larger than the spread."""
SPREAD = "p10–p90"


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: what it shows.
        header: one text for each column.
        rows: a text for each column.
        text_columns: so many columns from the left hold names, the others figures.
        note: what a reader must know to read it.
        footnote: how sure its figures are, as far as it must stand with them everywhere, in the README too.
        details: whether it is for the page alone, not for the README.

    Raises:
        ValueError: a row has another number of cells.
        TypeError: a cell is no text, as where a result has a number for a name.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: int = 1
    note: str = ""
    details: bool = False
    footnote: str = ""

    def __post_init__(self) -> None:
        if any(len(row) != len(self.header) for row in self.rows):
            raise ValueError(f"{self.title}: a row does not have {len(self.header)} columns.")
        texts = (self.title, self.note, self.footnote, *self.header, *(cell for row in self.rows for cell in row))
        if not all(isinstance(text, str) for text in texts):
            raise TypeError(f"{self.title}: a cell is no text.")


def make_table(
    title: str,
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    text_columns: int = 1,
    note: str = "",
    details: bool = False,
    footnote: str = "",
) -> Table:
    """A `Table` from any sequences."""
    return Table(title, tuple(header), tuple(map(tuple, rows)), text_columns, note, details, footnote)


def decimals(value: float) -> int:
    """Decimals that show three digits of a value, two at least."""
    return 2 if value == 0 else min(max(2, 2 - math.floor(math.log10(abs(value)))), 9)


def with_spread(time: Mapping[str, Any], scale: float = 1.0) -> str:
    """A summary as "median (p10–p90)".

    Args:
        time: of `diffcore_gpu.benchmarks.harness.measure.summary`.
        scale: by which its milliseconds are multiplied.
    """
    median, low, high = (time[key] * scale for key in ("median_ms", "p10_ms", "p90_ms"))
    places = decimals(median)
    return f"{median:.{places}f} ({low:.{places}f}–{high:.{places}f})"


def figure(value: float) -> str:
    """A number with three digits, two decimals at least."""
    return f"{value:.{decimals(value)}f}"


def samples_with_spread(samples: Sequence[float], scale: float = 1.0, places: int | None = None) -> str:
    """Samples as "median (p10–p90)", or the one sample alone."""
    median, low, high = (value * scale for value in quantiles(samples))
    places = decimals(median) if places is None else places
    if len(samples) == 1:
        return f"{median:.{places}f}"
    return f"{median:.{places}f} ({low:.{places}f}–{high:.{places}f})"


def signed(value: float | None) -> str:
    """A figure in percent with its sign, or a dash."""
    return MISSING if value is None else f"{value:+.1f}"


def interval(found: Mapping[str, float]) -> str:
    """An overhead with its interval, marked where that holds 0."""
    noise = NOISE if found["low"] <= 0 <= found["high"] else ""
    return f"{found['percent']:+.1f} ({found['low']:+.1f} … {found['high']:+.1f}){noise}"


def mean_and_spread(values: Sequence[float]) -> str:
    """Mean ± sample standard deviation; of one value, that value."""
    mean = statistics.fmean(values)
    return f"{mean:.2f} ± {statistics.stdev(values):.2f}" if len(values) > 1 else f"{mean:.2f}"


def shape_of(part: Mapping[str, Any]) -> str:
    """A batch as "16×3×224×224 float32", with its memory format where that is not the usual one."""
    size = part["size"]
    memory_format = part.get("memory_format", "contiguous")
    suffix = "" if memory_format == "contiguous" else f" {memory_format}"
    return f"{part['batch']}×3×{size}×{size} {part['dtype']}{suffix}"


def union(names: Iterable[Iterable[Name]]) -> list[Name]:
    """All names, each once, in the order in which they come."""
    return list(dict.fromkeys(name for group in names for name in group))


def markdown_table(table: Table) -> str:
    """A Markdown table, names to the left and figures to the right; title and note are not in it."""
    figures = len(table.header) - table.text_columns
    rule = ["---"] * table.text_columns + ["---:"] * figures
    lines = [_line(cells) for cells in (table.header, rule, *table.rows)]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(markdown_text, cells)) + " |"


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it is where it stands in a cell: no new cell, line or tag begins in it."""
    for character, written in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|")):
        text = text.replace(character, written)
    return " ".join(text.split())


def markdown_code(text: str) -> str:
    """Code between backticks, more of them than it holds in a row."""
    fence = "`"
    while fence in text:
        fence += "`"
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{' '.join(text.split())}{space}{fence}"


_SHORT = 4
"""So many numbers are shown one by one."""


def generic_tables(result: dict[str, Any], *, details: bool = False) -> list[Table]:
    """A row for each figure and a column for each part, for suites without tables; names of nested figures are joined.

    Args:
        result: of any suite.
        details: whether it is for the page alone.
    """
    parts = [dict(_flat(part)) for part in result["results"]]
    names = union(parts)
    header = ["figure", *(str(number + 1) for number in range(len(parts)))]
    rows = ([name, *(part.get(name, MISSING) for part in parts)] for name in names)
    return [make_table("Figures", header, rows, note="Of several numbers: median (p10–p90).", details=details)]


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, inner in value.items():
        name = f"{prefix}{key}"
        if name == "clocks_at_end":
            continue
        if isinstance(inner, Mapping) and {"median_ms", "p10_ms", "p90_ms"} <= inner.keys():
            yield f"{name}, ms", with_spread(inner)
        elif isinstance(inner, Mapping):
            yield from _flat(inner, f"{name} / ")
        elif isinstance(inner, list) and any(isinstance(item, Mapping | list) for item in inner):
            yield from _flat({str(number + 1): item for number, item in enumerate(inner)}, f"{name} / ")
        else:
            yield name, _text(inner)


def _text(value: Any) -> str:
    if isinstance(value, list):
        numbers = [item for item in value if isinstance(item, int | float) and not isinstance(item, bool)]
        if len(value) > _SHORT and len(numbers) == len(value):
            return samples_with_spread(numbers)
        return ", ".join(map(_text, value)) or MISSING
    if value is None:
        return MISSING
    if isinstance(value, float):
        return figure(value)
    return str(value)
