"""Accuracy runs from end to end, at a tiny size on the CPU: every recipe, exact resumes, and rows for what fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import diffcore_gpu.benchmarks.training.train as train_suite
from diffcore_gpu.benchmarks.harness.result_file import read_result
from diffcore_gpu.benchmarks.harness.runs import Run
from diffcore_gpu.benchmarks.suites import run_suite
from diffcore_gpu.benchmarks.training.models import PREACT_RESNETS
from diffcore_gpu.errors import BenchmarkError
from tests.baselines.small_models import SmallConvNet
from tests.benchmarks.training.folders import PER_CLASS, arguments, write_dataset, write_store

RECIPE = """
title = "Small"
[training]
model = "small"
size = 32
epochs = 3
batch = 5
lr = 0.05
seeds = [0]
evaluate_every = 2
splits = ["val", "test"]
[[arms]]
name = "vanilla"
method = "vanilla"
[[arms]]
name = "mixup"
method = "mixup"
[[arms]]
name = "diffusemix"
method = "diffusemix"
settings = { fractals = 2 }
[[arms]]
name = "half"
method = "diffcore-mix"
coverage = 0.5
[[arms]]
name = "real"
method = "diffcore-mix"
counterparts = "real"
[[arms]]
name = "snapmix"
method = "snapmix"
[variants.trees]
title = "Trees"
paper.half.val = { top1 = 61.5, top5 = 90 }
"""


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images and their store."""
    folder = tmp_path_factory.mktemp("train")
    write_store(write_dataset(folder / "data"), folder / "store")
    (folder / "small.toml").write_text(RECIPE)
    return folder


@pytest.fixture(autouse=True)
def small_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model with dropout and batch normalization that trains in milliseconds, named "small"."""
    monkeypatch.setitem(PREACT_RESNETS, "small", SmallConvNet)  # type: ignore[arg-type]


def train(trees: Path, out: Path, *more: object) -> dict[str, Any]:
    """The small recipe; its result."""
    run_suite("train", arguments(trees, str(trees / "small.toml"), "--json", out / "r.json", *more))
    return read_result(out / "r.json", "train")


def without_times(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in found.items() if key not in ("seconds", "clocks_at_end")}
        for found in result["results"]
    ]


def weights(out: Path, arm: str, seed: int = 0) -> dict[str, torch.Tensor]:
    path = out / f"r-runs/small-trees/{arm}/seed-{seed}/model.pt"
    found: dict[str, torch.Tensor] = torch.load(path, weights_only=True)
    return found


def test_what_a_run_leaves(trees: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = train(trees, tmp_path, "--seeds", 0, 1, "--arms", "vanilla", "half")
    shown = capsys.readouterr()
    parts = [(found["variant"], found["arm"], found["seed"]) for found in result["results"]]
    assert parts == [("trees", arm, seed) for seed in (0, 1) for arm in ("vanilla", "half")]
    assert result["paper"] == {"half": {"val": {"top1": 61.5, "top5": 90.0}}}
    assert result["setting"]["data"]["train"] == 3 * PER_CLASS
    for found in result["results"]:
        assert (found["epochs"], found["steps"]) == (3, 9)
        assert set(found["splits"]) == {"val", "test"}
        assert all(0 <= of["top1"] <= of["top5"] == 1 for of in found["splits"].values())  # of three classes
        assert [entry["epoch"] for entry in found["history"]] == [1, 2, 3]
        assert ["splits" in entry for entry in found["history"]] == [True, True, True]
        assert found["history"][-1]["splits"] == found["splits"]  # the last epoch's, not the best
        assert [entry["lr"] for entry in found["history"]] == pytest.approx([0.05, 0.05, 0.005])
    assert len({json.dumps(found["history"]) for found in result["results"]}) == 4
    lines = shown.err.splitlines()
    assert lines[0].startswith("Trees: 2 arms × 2 seeds, 3 epochs of 3 steps; checkpoints in ")
    assert lines[1].startswith("[1 of 4] vanilla, seed 0: epoch 1/3 · loss ")
    assert len(lines) == 1 + 4 * 3
    assert "val      seeds" in shown.out
    assert "61.50" in shown.out
    for arm in ("vanilla", "half"):
        model = SmallConvNet(3)
        model.load_state_dict(weights(tmp_path, arm))


@pytest.mark.parametrize("arm", ["vanilla", "mixup", "diffusemix", "half", "real"])
def test_a_run_that_was_cut_ends_like_one_that_was_not(
    arm: str, trees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(trees, tmp_path / "whole", "--arms", arm)
    monkeypatch.setattr(Run, "spent", property(lambda run: (tmp_path / "cut").exists()))
    line = train_suite.epoch_line

    def spend(run: str, epoch: Any, left: float) -> str:
        if epoch.number == 1:
            (tmp_path / "cut").mkdir()
        return line(run, epoch, left)

    monkeypatch.setattr(train_suite, "epoch_line", spend)
    run_suite("train", arguments(trees, str(trees / "small.toml"), "--arms", arm, "--json", tmp_path / "parts/r.json"))
    assert not (tmp_path / "parts/r.json").exists()  # no run is finished yet
    monkeypatch.undo()
    monkeypatch.setitem(PREACT_RESNETS, "small", SmallConvNet)  # type: ignore[arg-type]
    torch.rand(3)  # whatever else was drawn
    parts = train(trees, tmp_path / "parts", "--arms", arm)
    assert without_times(parts) == without_times(whole)
    one, other = weights(tmp_path / "whole", arm), weights(tmp_path / "parts", arm)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_that_was_killed_ends_like_one_that_was_not(
    trees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--arms", "half", "mixup", "--amp", "bf16", "--channels-last", "--steps", 2)
    whole = train(trees, tmp_path / "whole", *more)
    line = train_suite.epoch_line
    seen: list[str] = []

    def kill(run: str, epoch: Any, left: float) -> str:
        seen.append(f"{run} {epoch.number}")
        if len(seen) == 5:  # in the second arm, after an epoch and before its checkpoint
            raise KeyboardInterrupt
        return line(run, epoch, left)

    with monkeypatch.context() as patch:
        patch.setattr(train_suite, "epoch_line", kill)
        with pytest.raises(SystemExit) as stop:
            train(trees, tmp_path / "parts", *more)
    assert stop.value.code == 130
    capsys.readouterr()
    parts = train(trees, tmp_path / "parts", *more)
    resumed = [line.split(" · ")[0] for line in capsys.readouterr().err.splitlines()[1:]]
    assert resumed == ["[2 of 2] mixup, seed 0: epoch 2/3", "[2 of 2] mixup, seed 0: epoch 3/3"]
    assert without_times(parts) == without_times(whole)


def test_budget_0_trains_nothing(trees: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_suite("train", arguments(trees, str(trees / "small.toml"), "--out", tmp_path, "--budget-minutes", 0))
    shown = capsys.readouterr().out
    assert "The budget is spent before the end of variant trees, arm vanilla, seed 0; run the same command" in shown
    assert not list(tmp_path.rglob("*.pt"))


def test_seeds_and_arms_may_be_added_and_nothing_is_trained_twice(
    trees: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(trees, tmp_path, "--arms", "vanilla")
    capsys.readouterr()
    result = train(trees, tmp_path, "--arms", "vanilla", "mixup", "--seeds", 0, 7)
    assert [(found["arm"], found["seed"]) for found in result["results"]] == [
        *[("vanilla", 0), ("mixup", 0), ("vanilla", 7), ("mixup", 7)]
    ]
    assert "] vanilla, seed 0:" not in capsys.readouterr().err
    (tmp_path / "r.json").unlink()  # the folder of the runs has the figures too
    again = train(trees, tmp_path, "--arms", "vanilla", "mixup", "--seeds", 0, 7)
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert without_times(again) == without_times(result)


def test_another_run_is_not_continued(trees: Path, tmp_path: Path) -> None:
    train(trees, tmp_path, "--arms", "half", "--epochs", 1)
    with pytest.raises(BenchmarkError, match=r"holds another run \(lr is 0.1 here and 0.05 there\); remove it"):
        train(trees, tmp_path, "--arms", "half", "--epochs", 1, "--lr", 0.1)
    text = RECIPE.replace("coverage = 0.5", "coverage = 0.6")
    (tmp_path / "small.toml").write_text(text)
    changed = arguments(trees, str(tmp_path / "small.toml"), "--arms", "half", "--epochs", 1)
    with pytest.raises(
        BenchmarkError, match=r"r\.json: holds results of an arm half with other settings or another st"
    ):
        run_suite("train", [*changed, "--json", str(tmp_path / "r.json")])
    with pytest.raises(BenchmarkError, match=r"seed-0/checkpoint\.pt: is of another run \(definition is "):
        run_suite("train", [*changed, "--out", str(tmp_path / "r-runs")])


def test_a_run_that_diverges_is_a_row_that_says_so(
    trees: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = train(trees, tmp_path, "--arms", "vanilla", "--lr", 1e30)
    (found,) = result["results"]
    assert found["failed"].startswith("diverged at epoch 1: the loss is ")
    assert "splits" not in found
    shown = capsys.readouterr().out
    assert shown.count("vanilla, seed 0: failed: diverged at epoch 1") == 2  # when it happens and below the table


class NoGrid(nn.Module):
    """A model without a feature map, which SnapMix cannot work with."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(3, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(x.mean((2, 3)))
        return logits


def test_an_arm_that_fails_is_a_row_and_the_others_go_on(
    trees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PREACT_RESNETS, "small", NoGrid)  # type: ignore[arg-type]
    result = train(trees, tmp_path, "--arms", "snapmix", "vanilla", "--epochs", 1)
    failed, fine = result["results"]
    assert failed["failed"].startswith("SnapMix needs")
    assert "\n" not in failed["failed"]
    assert "splits" in fine
    again = train(trees, tmp_path, "--arms", "snapmix", "vanilla", "--epochs", 1)
    assert again["results"] == result["results"]
    retried = train(trees, tmp_path, "--arms", "snapmix", "vanilla", "--epochs", 1, "--retry-failed")
    assert [found["arm"] for found in retried["results"]] == ["vanilla", "snapmix"]


def test_running_out_of_memory_is_a_row(trees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore lines")

    with monkeypatch.context() as patch:
        patch.setattr("diffcore_gpu.benchmarks.training.step.cross_entropy", exhausted)
        result = train(trees, tmp_path, "--arms", "mixup", "vanilla", "--epochs", 1)
    assert [found.get("failed") for found in result["results"]] == [
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        None,
    ]
    retried = train(trees, tmp_path, "--arms", "mixup", "vanilla", "--epochs", 1, "--retry-failed")
    assert [found["arm"] for found in retried["results"]] == ["vanilla", "mixup"]
    assert all("splits" in found for found in retried["results"])


def test_fp16_is_scaled_and_goes_on(trees: Path, tmp_path: Path) -> None:
    result = train(trees, tmp_path, "--arms", "vanilla", "--amp", "fp16", "--epochs", 2, "--images-per-class", 4)
    assert "splits" in result["results"][0]
    assert result["setting"]["data"]["train"] == 12


def test_early_checks_come_before_any_training(trees: Path, tmp_path: Path) -> None:
    small = str(trees / "small.toml")
    for more, message in (
        (["--arms", "halv"], r"no arm 'halv'; did you mean half, real\?"),
        (["--splits", "dev"], r"has no folder dev/, which this recipe evaluates on"),
        (["--size", "64"], r"holds counterparts of 3×32×32"),
        (["--model", "resnet"], r"there is no model 'resnet'; did you mean "),
        (["--images-per-class", "9"], r"fewer than the 9 of each class"),
    ):
        with pytest.raises(BenchmarkError, match=message):
            run_suite("train", arguments(trees, small, "--out", tmp_path, *more))
    with pytest.raises(BenchmarkError, match=r"several variants; choose one with --variant: cub, cars, caltech"):
        run_suite("train", arguments(trees, "table4", "--out", tmp_path))
    assert not list(tmp_path.rglob("*.pt"))
