"""Access to stores, measured on tiny ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffcore_gpu.benchmarks.harness.result_file import read_result
from diffcore_gpu.benchmarks.suites import run_suite


def test_opening_and_reading(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "access.json"
    arguments = [
        "--rows",
        "40",
        "--opens",
        "2",
        "--large-rows",
        "6",
        "--batch",
        "4",
        "--repeats",
        "3",
        "--json",
        str(path),
    ]
    run_suite("store-access", arguments)
    opening, reading, checking, beside = read_result(path, "store-access")["results"]
    for part, decoding in ((checking, False), (beside, True)):
        assert part["decoding"] is decoding
        assert part["ratios"].keys() == {"plain again", "lazy, first epoch", "lazy, later epoch"}
        assert all(len(ratio["all"]) == len(part["seconds"]["plain"]) for ratio in part["ratios"].values())
    assert (opening["what"], opening["rows"], len(opening["open"]["samples_ms"])) == ("opening", 40, 2)
    assert reading["what"] == "reading"
    for name, time in reading["times"].items():
        assert len(time["samples_ms"]) == 3, name
        assert time["gb_per_s"] == pytest.approx(4 * 3 * 256 * 256 / time["median_ms"] / 1e6), name
    speed = reading["speed"]["images / clone"]
    assert speed == pytest.approx(reading["times"]["clone"]["median_ms"] / reading["times"]["images"]["median_ms"])
    assert "images(out=)" in capsys.readouterr().out
