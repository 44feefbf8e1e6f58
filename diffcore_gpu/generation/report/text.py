"""The report for a terminal: rows of a summary, rows of a table of classes, and sentences on what needs a look."""

from __future__ import annotations

import math

from diffcore_gpu.generation.report.figures import count, counted, duration, percent
from diffcore_gpu.generation.report.records import ClassReport, GenerationReport

MOST_CLASSES = 20
"""Classes that a terminal shows by default."""
YARDSTICK = "about half of all pairs of real images lie below a measured τ too"
"""What a share of discards is to be read beside."""
_NAMED = 8  # classes that a remark names


def summary_rows(report: GenerationReport) -> list[tuple[str, str]]:
    """Name and value of each headline figure."""
    rows = [
        ("samples", f"{count(report.samples)} in {counted(len(report.classes), 'class')}"),
        (
            "coverage",
            f"{percent(100 * report.coverage)}: {count(report.covered)} samples have a counterpart, "
            f"{count(report.wanted)} were to get one",
        ),
        ("generated", f"{count(report.generated)}, of which {count(report.accepted)} were accepted"),
        (
            "discarded",
            f"{percent(report.discarded_percent)}: {counted(report.discarded, 'image')}{_yardstick(report)}",
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
    if report.without_counterpart:
        lines.append(
            f"{counted(report.without_counterpart, 'sample')} never passed the filter: every attempt was discarded."
        )
    waiting = report.uncovered - report.without_counterpart
    if waiting > 0:
        lines.append(f"{counted(waiting, 'sample')} not done yet: the run stopped before all attempts were made.")
    empty = [part.name for part in report.classes if not part.samples]
    if empty:
        lines.append(f"{counted(len(empty), 'class')} without real images: {_names(empty)}.")
    if report.generated and not is_filtered(report):
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
