"""The report in words: numbers the way a person reads them, what a terminal shows, and what needs a look."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from diffcore_gpu.generation.report.records import ClassReport, GenerationReport

MOST_CLASSES = 20
"""Classes that a terminal shows by default."""
YARDSTICK = "about half of all pairs of real images lie below a measured τ too"
"""What a share of discards is to be read beside."""
_NAMED = 8  # classes that a remark names
_LISTED = 8  # values of a setting that are spelled out


def summary_rows(report: GenerationReport) -> list[tuple[str, str]]:
    """Name and value of each headline figure."""
    total = report.total
    rows = [
        ("samples", f"{count(total.samples)} in {counted(len(report.classes), 'class')}"),
        (
            "coverage",
            f"{percent(100 * total.coverage)}: {count(total.covered)} samples have a counterpart, "
            f"{count(total.wanted)} were to get one",
        ),
        ("generated", f"{count(total.generated)}, of which {count(total.accepted)} were accepted"),
        (
            "discarded",
            f"{percent(total.discarded_percent)}: {counted(total.discarded, 'image')}{_yardstick(report)}",
        ),
        ("time per image", f"{duration(report.seconds_per_image)} ({speed_text(report)})"),
    ]
    if report.stage_shares:
        shares = ", ".join(f"{stage} {percent(100 * share)}" for stage, share in report.stage_shares.items())
        rows.append(("time by stage", shares))
    return rows


def class_heading(report: GenerationReport, most: int = MOST_CLASSES) -> str:
    """What stands above `class_rows`: whether they are all classes."""
    if len(report.classes) <= most:
        return "Classes:"
    return f"{most} of {counted(len(report.classes), 'class')}, those with the most discards in percent:"


def class_rows(report: GenerationReport, most: int = MOST_CLASSES) -> list[list[str]]:
    """A heading and a row for each class; where there are more than `most`, those with the most discards in percent."""
    parts = list(report.classes)
    if len(parts) > most:
        parts = sorted(parts, key=lambda part: (not (part.wanted and not part.covered), -_or_zero(part)))[:most]
    heading = ["class", "samples", "wanted", "covered", "generated", "discarded", "discarded %", "tau"]
    rows = [
        [
            part.name,
            *(str(number) for number in (part.samples, part.wanted, part.covered, part.generated, part.discarded)),
            "-" if math.isnan(part.discarded_percent) else f"{part.discarded_percent:.1f}",
            "-" if math.isnan(part.threshold) else f"{part.threshold:.3f}",
        ]
        for part in parts
    ]
    return [heading, *rows]


def remarks(report: GenerationReport) -> list[str]:
    """Sentences on classes without counterparts, samples that got none, and classes without samples."""
    lines = []
    bare = [part.name for part in report.classes if part.wanted and not part.covered]
    if bare:
        lines.append(f"{counted(len(bare), 'class')} with no counterpart at all: {_names(bare)}.")
    if report.total.never_passed:
        lines.append(
            f"{counted(report.total.never_passed, 'sample')} never passed the filter: every attempt was discarded."
        )
    waiting = report.total.uncovered - report.total.never_passed
    if waiting > 0:
        lines.append(f"{counted(waiting, 'sample')} not done yet: the run stopped before all attempts were made.")
    empty = [part.name for part in report.classes if not part.samples]
    if empty:
        lines.append(f"{counted(len(empty), 'class')} without real images: {_names(empty)}.")
    if report.total.generated and not is_filtered(report):
        lines.append("The images were not filtered: no class has a threshold.")
    return lines


def is_filtered(report: GenerationReport) -> bool:
    """Whether a class has a threshold."""
    return not all(math.isnan(part.threshold) for part in report.classes)


def _yardstick(report: GenerationReport) -> str:
    return f" ({YARDSTICK})" if is_filtered(report) else ""


def speed_text(report: GenerationReport) -> str:
    """``4.61 images/s; 243 ms per accepted one``."""
    if math.isnan(report.images_per_second):
        return "not timed"
    rate = report.images_per_second
    speed = (f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}") + " images/s"
    if not math.isnan(report.seconds_per_counterpart):
        speed += f"; {duration(report.seconds_per_counterpart)} per accepted one"
    return speed


def _names(names: list[str]) -> str:
    more = f" and {count(len(names) - _NAMED)} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _or_zero(part: ClassReport) -> float:
    return 0.0 if math.isnan(part.discarded_percent) else part.discarded_percent


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
