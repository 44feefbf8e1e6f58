"""The one loop of the suites of ops: its parts and turns, and that recorded results are those of the registry."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from diffcore_gpu import CounterpartStore
from diffcore_gpu.benchmarks.harness.command import Output
from diffcore_gpu.benchmarks.harness.measure import interleaved
from diffcore_gpu.benchmarks.harness.runs import Run
from diffcore_gpu.benchmarks.ops import runner
from diffcore_gpu.benchmarks.ops.registry import BANDWIDTH, GEOMETRY, HOST_OVERHEAD, PEERS, RESIDENCY, Op
from diffcore_gpu.benchmarks.ops.runner import Case, run_op, summaries

CPU = torch.device("cpu")
RESULTS = Path(__file__).resolve().parents[3] / "benchmarks" / "results"


@pytest.mark.parametrize("op", [PEERS, BANDWIDTH, GEOMETRY, HOST_OVERHEAD, RESIDENCY], ids=lambda op: op.suite)
def test_recorded_parts_are_told_apart_as_the_registry_says(op: Op) -> None:
    found = [json.loads(path.read_text()) for path in RESULTS.rglob("*.json")]
    for result in (result for result in found if result["suite"] == op.suite):
        parts = [tuple(part[name] for name in op.parts) for part in result["results"]]
        assert len(set(parts)) == len(parts) > 0
    assert set(op.parts) <= {"batch", "size", "dtype", "memory_format"}


def test_every_configuration_is_measured_once_over_a_store_of_its_size(tmp_path: Path) -> None:
    op = replace(BANDWIDTH, batch=[2, 3], size=[8, 16], dtype=["uint8"], repeats=4)
    seen: list[tuple[int, ...]] = []

    def measure(case: Case) -> dict[str, Any]:
        assert (case.op.repeats, case.device) == (4, CPU)
        assert case.images().shape == (case.batch, 3, case.size, case.size)
        assert case.images().is_contiguous(
            memory_format=torch.channels_last if case.memory_format == "channels_last" else torch.contiguous_format
        )
        assert case.index().tolist() == list(range(case.batch))
        seen.append((*case.store.image_shape[1:], case.batch))
        return {"count": len(seen)}

    path = tmp_path / "r.json"
    run = Run("bandwidth", Output("diffcore bench bandwidth", path), CPU, {"repeats": 4})
    result = run_op(run, op, measure, lambda part: f"part {part['count']}")
    assert seen == [(size, size, batch) for size in (8, 16) for _ in range(2) for batch in (2, 3)]
    assert [list(part)[:4] for part in result["results"]] == [["size", "dtype", "memory_format", "batch"]] * 8
    again = Run("bandwidth", Output("diffcore bench bandwidth", path), CPU, {"repeats": 4})
    run_op(again, replace(op, batch=[2, 3, 1]), measure, str, store_size=24)
    assert seen[8:] == [(24, 24, 1)] * 4


@pytest.mark.parametrize("op", [PEERS, BANDWIDTH, GEOMETRY, HOST_OVERHEAD, RESIDENCY], ids=lambda op: op.suite)
def test_actions_take_turns_as_the_op_says(
    op: Op, small_store: CounterpartStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def noting(actions: Any, **how: Any) -> dict[str, list[float]]:
        asked.update(how)
        return interleaved(actions, **how)

    monkeypatch.setattr(runner, "interleaved", noting)
    calls: list[str] = []

    def action(name: str) -> Callable[[], object]:
        return lambda: calls.append(name)

    case = Case(replace(op, repeats=6), CPU, small_store, 1, 32, "uint8", "contiguous")
    names = "abcd"
    times = case.times({name: action(name) for name in names}, prepare=lambda: calls.append("."))
    assert all(len(time["samples_ms"]) == 6 for time in times.values())
    rounds = "".join(calls).replace(".", "")
    assert calls[::2] == ["."] * len(rounds)
    assert len(rounds) == 4 * (6 + op.warmup)
    turns = [rounds[at : at + 4] for at in range(0, len(rounds), 4)]
    assert all(sorted(turn) == list(names) for turn in turns)
    assert (len(set(turns)) > 1) == op.shuffle
    assert (asked["head_start"], asked["repeats"]) == (op.head_start, 6)


def test_several_calls_of_a_sample_are_divided() -> None:
    assert summaries({"a": [2.0, 4.0]}, 4)["a"]["samples_ms"] == [500.0, 1000.0]
