"""Checkpoints are written whole, hold nothing that runs, and are taken by their own run alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from diffcore_gpu.benchmarks.training.checkpoint import Checkpoint
from diffcore_gpu.errors import BenchmarkError

CPU = torch.device("cpu")
IDENTITY = {"lr": 0.1, "splits": ("val", "test")}


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "arm/seed-0", IDENTITY)
    checkpoint.check()
    assert checkpoint.load(CPU) is None
    state = {"model": {"w": torch.randn(3)}, "history": [{"epoch": 1, "loss": 0.1 + 0.2}], "seconds": 1.5}
    checkpoint.save(state)
    again = Checkpoint(tmp_path / "arm/seed-0", {**IDENTITY, "splits": ["val", "test"]})
    again.check()
    found = again.load(CPU)
    assert found is not None
    assert torch.equal(found["model"]["w"], state["model"]["w"])  # type: ignore[index, call-overload]
    assert (found["history"], found["seconds"]) == (state["history"], state["seconds"])


def test_another_runs_checkpoint_is_refused(tmp_path: Path) -> None:
    Checkpoint(tmp_path, IDENTITY).save({})
    for act in (lambda c: c.check(), lambda c: c.load(CPU)):
        with pytest.raises(
            BenchmarkError, match=r"is of another run \(lr is 0\.2 here and 0\.1 there\); remove it, or"
        ):
            act(Checkpoint(tmp_path, {**IDENTITY, "lr": 0.2}))


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04" + bytes(40)])
def test_a_damaged_one_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(BenchmarkError, match=r"checkpoint\.pt: is damaged or no checkpoint; remove it to begin"):
        Checkpoint(tmp_path, IDENTITY).check()


class Runs:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    torch.save({"format": 1, "identity": "{}", "state": Runs(tmp_path / "ran")}, tmp_path / "checkpoint.pt")
    with pytest.raises(BenchmarkError, match="is damaged or no checkpoint"):
        Checkpoint(tmp_path, {}).load(CPU)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", [OSError, RuntimeError])
def test_a_write_that_fails_leaves_the_old_one(
    kind: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Checkpoint(tmp_path, IDENTITY)
    checkpoint.save({"seconds": 1.0})

    def full(content: object, file: Any) -> None:
        file.write(b"half of")
        raise kind("No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(
        BenchmarkError, match=r"checkpoint\.pt: cannot be written \(No space left on device\); what was"
    ):
        checkpoint.save({"seconds": 2.0})
    assert checkpoint.load(CPU) == {"seconds": 1.0}


def test_a_finished_run_leaves_its_weights_and_figures(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, IDENTITY)
    checkpoint.save({"model": {"w": torch.zeros(10_000)}})
    before = checkpoint.path.stat().st_size
    checkpoint.finish({"figures": {"epochs": 2}}, {"w": torch.ones(10_000)})
    assert checkpoint.load(CPU) == {"figures": {"epochs": 2}}
    assert checkpoint.path.stat().st_size < before / 10
    assert torch.equal(torch.load(tmp_path / "model.pt", weights_only=True)["w"], torch.ones(10_000))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "model.pt"]
