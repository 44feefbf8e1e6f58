"""Runs in parts: what is done is kept, a budget cuts, and another run's file is not overwritten."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from diffcore_gpu.benchmarks.harness.command import Output
from diffcore_gpu.benchmarks.harness.result_file import read_result, write_result
from diffcore_gpu.benchmarks.harness.runs import Run
from diffcore_gpu.errors import BenchmarkError

PARTS = [{"batch": 1}, {"batch": 2}, {"batch": 3}]


def begin(path: Path | None, budget_minutes: float | None = None, setting: dict[str, Any] | None = None) -> Run:
    output = Output("diffcore bench some", path, budget_minutes)
    return Run("some", output, torch.device("cpu"), setting or {"size": 4}, ["torchvision"])


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
    begin(path, 0).do(PARTS, counting(calls))
    assert calls == [1]
    assert "budget is spent before the end of batch 2; run the same command again" in capsys.readouterr().out
    result = begin(path).do(PARTS, counting(calls))
    assert calls == [1, 2, 3]
    assert [found["batch"] for found in result["results"]] == [1, 2, 3]


def test_a_part_that_stops_before_its_end_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    result = begin(path).do(PARTS, lambda part: {"square": 1} if part["batch"] == 1 else None)
    assert [found["batch"] for found in result["results"]] == [1]


def test_what_a_part_keeps_is_written_at_once_and_told_when_the_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    run = begin(path)

    def cut_off(part: dict[str, Any]) -> None:
        for turns in (1, 2):
            run.keep(part, {"turns": turns})
            assert read_result(path)["results"] == [{"batch": 1, "turns": turns, "unfinished": True}]

    run.do(PARTS, cut_off)
    resumed = begin(path)
    seen: list[Any] = []

    def go_on(part: dict[str, Any]) -> dict[str, Any]:
        seen.append(resumed.kept(part))
        return {"turns": 3}

    result = resumed.do(PARTS, go_on)
    assert seen == [{"batch": 1, "turns": 2, "unfinished": True}, None, None]
    assert [(part["batch"], part["turns"], "unfinished" in part) for part in result["results"]] == [
        (1, 3, False), (2, 3, False), (3, 3, False),
    ]  # fmt: skip
    assert read_result(path) == result


def test_the_load_of_every_start_is_kept_and_a_busy_machine_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.json"
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    for part, load in zip(PARTS, (1.1, 1.25, 0.3), strict=True):
        monkeypatch.setattr("os.getloadavg", lambda load=load: (load, 9.0, 9.0))
        begin(path).do([part], counting([]))
        told = capsys.readouterr().err
        assert ("the load of this machine is 1.25 on 4 processors" in told) == (load == 1.25)
        assert ("begin when the load is below 1.20" in told) == (load == 1.25)
    found = read_result(path)["environment"]
    assert (found["load_at_start"], found["load_when_resumed"]) == (1.1, [1.25, 0.3])


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
