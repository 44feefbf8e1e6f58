"""Runs in parts: what is done is kept, a budget cuts, and another run's file is not overwritten."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from diffcore_gpu.benchmarks.arguments import SuiteParser
from diffcore_gpu.benchmarks.errors import BenchmarkError
from diffcore_gpu.benchmarks.result_file import read_result, write_result
from diffcore_gpu.benchmarks.runs import Run

PARTS = [{"batch": 1}, {"batch": 2}, {"batch": 3}]


def begin(path: Path | None, *arguments: str, setting: dict[str, Any] | None = None) -> Run:
    parser = SuiteParser("some", "A suite.")
    parser.add_resumable_json()
    options = parser.parse([*([] if path is None else ["--json", str(path)]), *arguments])
    return Run("some", options, torch.device("cpu"), setting or {"size": 4}, ["torchvision"])


def counting(calls: list[int]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def measure(part: dict[str, Any]) -> dict[str, Any]:
        calls.append(part["batch"])
        return {"square": part["batch"] ** 2}

    return measure


def test_each_part_is_written_when_it_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.json"
    seen: list[list[int]] = []

    def measure(part: dict[str, Any]) -> dict[str, Any]:
        seen.append([found["batch"] for found in read_result(path)["results"]] if path.exists() else [])
        return {"square": part["batch"] ** 2}

    result = begin(path).do(PARTS, measure, lambda found: f"square {found['square']}")
    assert seen == [[], [1], [1, 2]]
    assert [found["square"] for found in result["results"]] == [1, 4, 9]
    assert result == read_result(path, "some")
    assert capsys.readouterr().out.split("\n\n") == ["square 1", "square 4", "square 9", ""]
    assert "cpu_mhz" in result["results"][0]["clocks_at_end"]
    assert "cpu_mhz" in result["environment"]["clocks_at_start"]


def test_a_run_goes_on_where_it_was_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.json"
    calls: list[int] = []
    begin(path).do(PARTS[:1], counting(calls))
    begin(path, "--budget-minutes", "0").do(PARTS, counting(calls))
    assert calls == [1]
    assert "budget is spent before the end of batch 2; run the same command again" in capsys.readouterr().out
    result = begin(path).do(PARTS, counting(calls))
    assert calls == [1, 2, 3]
    assert [found["batch"] for found in result["results"]] == [1, 2, 3]


def test_a_part_that_stops_before_its_end_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    result = begin(path).do(PARTS, lambda part: {"square": 1} if part["batch"] == 1 else None)
    assert [found["batch"] for found in result["results"]] == [1]


def test_another_runs_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    begin(path).do(PARTS, counting([]))
    before = path.read_text()
    with pytest.raises(BenchmarkError, match=r"r\.json: holds another run \(size is 5 here and 4 there\); remove it"):
        begin(path, setting={"size": 5})
    elsewhere = read_result(path)
    elsewhere["environment"]["versions"]["torch"] = "1.0"
    write_result(path, elsewhere)
    with pytest.raises(BenchmarkError, match=r"holds another run \(versions is not the same\)"):
        begin(path)
    assert before != path.read_text()


def test_without_a_file_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(begin(None).do(PARTS, counting([]))["results"]) == 3
    assert list(tmp_path.iterdir()) == []
