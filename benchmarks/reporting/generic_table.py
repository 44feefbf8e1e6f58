"""A table of any result: what is shown of a suite that has no table of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from diffcore_gpu.benchmarks.reporting.tables import (
    MISSING,
    Table,
    figure,
    make_table,
    samples_with_spread,
    union,
    with_spread,
)

_SHORT = 4
"""So many numbers are shown one by one."""


def generic_tables(result: dict[str, Any], *, details: bool = False) -> list[Table]:
    """A row for each figure and a column for each part; the names of nested figures are joined.

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
