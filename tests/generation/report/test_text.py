"""What the terminal is told agrees with the report."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from diffcore_gpu.generation.report.records import ClassReport, GenerationReport
from diffcore_gpu.generation.report.text import (
    class_heading,
    class_rows,
    counted,
    difference,
    duration,
    percent,
    plain_value,
    remarks,
    similarity,
    speed_text,
    summary_rows,
)
from tests.generation.report.reports import make_run


def test_summary(tmp_path: Path) -> None:
    report = make_run(tmp_path, ["a", "b"]).report
    rows = dict(summary_rows(report))
    assert rows["samples"] == "12 in 2 classes"
    assert rows["discarded"].startswith(f"{report.total.discarded_percent:.1f} %")
    assert "about half of all pairs of real images lie below a measured τ too" in rows["discarded"]
    assert rows["time by stage"].startswith("denoiser 80.0 %")


def test_class_rows_show_the_worst_where_there_are_many(tmp_path: Path) -> None:
    report = make_run(tmp_path, [f"c{k}" for k in range(8)], 3, hopeless=6).report
    assert [row[0] for row in class_rows(report)[1:]] == [f"c{k}" for k in range(8)]
    assert class_rows(report, most=3)[1][0] == "c6"
    assert len(class_rows(report, most=3)) == 4
    assert {len(row) for row in class_rows(report)} == {8}
    assert class_heading(report) == "Classes:"
    assert class_heading(report, most=3) == "3 of 8 classes, those with the most discards in percent:"


def test_remarks() -> None:
    parts = [
        ClassReport("good", 4, 4, 4, 4, 0, 0.5),
        ClassReport("bare", 4, 4, 0, 8, 8, 0.5, never_passed=4),
        ClassReport("early", 4, 4, 1, 1, 0, 0.5),
        ClassReport("empty", 0, 0, 0, 0, 0, math.nan),
    ]
    assert remarks(GenerationReport(parts, {}, {})) == [
        "1 class with no counterpart at all: bare.",
        "4 samples never passed the filter: every attempt was discarded.",
        "3 samples not done yet: the run stopped before all attempts were made.",
        "1 class without real images: empty.",
    ]
    assert remarks(GenerationReport(parts[:1], {}, {})) == []
    [line] = remarks(GenerationReport([ClassReport(f"c{k}", 1, 1, 0, 0, 0, 0.5) for k in range(30)], {}, {}))[:1]
    assert line.endswith("c7 and 22 more.")


def test_unfiltered_images_are_said_to_be() -> None:
    report = GenerationReport([ClassReport("a", 1, 1, 1, 1, 0, math.nan)], {}, {})
    assert remarks(report) == ["The images were not filtered: no class has a threshold."]
    assert dict(summary_rows(report))["discarded"] == "0.0 %: 0 images"


@pytest.mark.parametrize(("images", "text"), [(0, "not timed"), (461, "4.61 images/s"), (123_456, "1,235 images/s")])
def test_speed(images: int, text: str) -> None:
    report = GenerationReport([ClassReport("a", 9, 9, 0, 0, 0, 0.5)], {}, {}, 100.0 if images else 0.0, images)
    assert speed_text(report) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0.0004, "0.4 ms"), (0.0123, "12 ms"), (3.2, "3.20 s"), (42.0, "42.0 s"), (59.99, "1 min 0 s")),
        *((725.0, "12 min 5 s"), (3599.9, "1 h 0 min"), (12_000.0, "3 h 20 min"), (math.nan, "–")),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_other_figures() -> None:
    assert [counted(1, "class"), counted(2, "class")] == ["1 class", "2 classes"]
    assert counted(1200, "image") == "1,200 images"
    assert (percent(10.44), percent(math.nan)) == ("10.4 %", "–")
    assert (similarity(-0.5), difference(-0.0414), difference(0.0414)) == ("−0.500", "− 0.041", "+ 0.041")
    assert [plain_value(value) for value in ([512, 512], True, 12.0, None, "x")] == [
        "512, 512",
        "yes",
        "12",
        "none",
        "x",
    ]
    assert plain_value(["a prompt"] * 30) == "30 values"
