"""Numbers of a report the way a person reads them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

_LISTED = 8  # values of a setting that are spelled out


def count(number: int) -> str:
    """``1,234,567``."""
    return f"{number:,}"


def counted(number: int, noun: str) -> str:
    """``1 image``, ``2 images``, ``2 classes``."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def percent(value: float) -> str:
    """``10.4 %``; a dash where there is no value."""
    return "–" if math.isnan(value) else f"{value:.1f} %"


def similarity(value: float) -> str:
    """``0.842``; a dash where there is no value."""
    return "–" if math.isnan(value) else f"{value:.3f}".replace("-", "−")


def difference(value: float) -> str:
    """``+ 0.041`` or ``− 0.041``; nothing where there is no value."""
    return "" if math.isnan(value) else f"{'−' if value < 0 else '+'} {abs(value):.3f}"


def duration(seconds: float) -> str:
    """``0.4 ms``, ``12 ms``, ``3.20 s``, ``12 min 5 s``, ``3 h 20 min``; a dash where there is no value."""
    if math.isnan(seconds):
        return "–"
    if seconds < 1:
        milliseconds = seconds * 1000
        return f"{milliseconds:.1f} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {minutes} min"


def plain_value(value: Any) -> str:
    """A setting as text; a list of more than 8 values by its length. Not escaped."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"{len(value)} values" if len(value) > _LISTED else ", ".join(plain_value(part) for part in value)
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
