"""The benchmarks that train: that every arm runs, is timed and reported, and that the arms compute what they claim."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import diffcore_gpu as dc
from diffcore_gpu.benchmarks.ops import geometry, residency
from diffcore_gpu.benchmarks.ops.registry import GEOMETRY, RESIDENCY, Op
from diffcore_gpu.benchmarks.ops.runner import Case

pytest.importorskip("torchvision", reason="torchvision is not installed")
MODEL = "squeezenet1_1"
CPU = torch.device("cpu")


def case(op: Op, store: dc.CounterpartStore, dtype: str = "float32", repeats: int = 3) -> Case:
    return Case(replace(op, repeats=repeats), CPU, store, 4, 32, dtype, "channels_last")


@pytest.fixture
def eight_rows(small_store: dc.CounterpartStore, monkeypatch: pytest.MonkeyPatch) -> dc.CounterpartStore:
    monkeypatch.setattr(residency, "ROWS", 8)
    return small_store


@pytest.mark.parametrize("dtype", ["bfloat16", "uint8"])
def test_every_preprocessor_makes_the_same_kind_of_batch(eight_rows: dc.CounterpartStore, dtype: str) -> None:
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    made = geometry.preprocessors(eight_rows, 24, dtype, "channels_last", CPU)
    assert set(made) == {geometry.VANILLA, geometry.PER_SAMPLE, geometry.OURS, geometry.OURS_SAME}
    for name, run in made.items():
        batch = run(images, torch.arange(4))
        assert batch.shape == (4, 3, 24, 24), name
        assert batch.dtype == getattr(torch, dtype), name
        assert batch.is_contiguous(memory_format=torch.channels_last), name
        assert dtype == "uint8" or -3 < batch.min() < batch.max() < 3, name


def test_steps_are_compared_with_the_vanilla_step(eight_rows: dc.CounterpartStore) -> None:
    result = geometry.measure(case(GEOMETRY, eight_rows), MODEL)
    for times in result["times"].values():
        assert all(len(time["samples_ms"]) == 3 for time in times.values())
    text = geometry.report({"batch": 4, "dtype": "float32", **result})
    header = text.splitlines()[0]
    assert header.startswith("batch 4, float32")
    assert header.endswith("overhead")
    assert "+0.0%" in text.splitlines()[1]


@pytest.mark.parametrize(("dtype", "alone"), [("uint8", False), ("float32", True)])
def test_bytes_and_what_is_asked_for_alone_have_no_step(
    eight_rows: dc.CounterpartStore, dtype: str, alone: bool
) -> None:
    result = geometry.measure(case(GEOMETRY, eight_rows, dtype), None if alone else MODEL)
    assert list(result["times"]) == ["alone"]
    text = geometry.report({"batch": 4, "dtype": dtype, **result})
    assert text.splitlines()[0].endswith("of a crop an image")
    assert text.splitlines()[2].endswith("1.00")


def test_residencies_take_turns(eight_rows: dc.CounterpartStore) -> None:
    result = residency.measure(case(RESIDENCY, eight_rows, repeats=2), MODEL, 2)
    assert list(result["times"]) == ["none", "device", "host", "disk"]
    assert all(len(time["samples_ms"]) == 2 for time in result["times"].values())
    assert "disk" in residency.report({"batch": 4, **result})


def test_residencies_yield_the_same_images(eight_rows: dc.CounterpartStore, tmp_path: Path) -> None:
    batches = residency.Batches(3, 4, 32, pin=False)
    runs = {name: [images for images, _ in run()] for name, run in residency.arms(eight_rows, batches, CPU).items()}
    for name in ("host", "disk"):
        assert all(torch.equal(a, b) for a, b in zip(runs[name], runs["device"], strict=True))
    assert not torch.equal(runs["none"][0], runs["device"][0])
