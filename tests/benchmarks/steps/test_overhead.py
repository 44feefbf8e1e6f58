"""The overhead of eq. 9: that every method is measured or says why not."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from diffcore_gpu import CounterpartStore
from diffcore_gpu.benchmarks.harness.result_file import read_result
from diffcore_gpu.benchmarks.steps import overhead
from diffcore_gpu.benchmarks.steps import run as step_run
from diffcore_gpu.benchmarks.steps.run import blocks, parts
from diffcore_gpu.benchmarks.suites import run_suite
from diffcore_gpu.benchmarks.training.step import Mix, make_mix
from diffcore_gpu.errors import BenchmarkError
from tests.benchmarks.harness.batches import TINY_STEPS
from tests.benchmarks.reporting.samples import sample

for package in ("torchvision", "timm"):
    pytest.importorskip(package, reason=f"the benchmark of overheads needs {package}")

ROOT = Path(__file__).resolve().parents[3]
KILLED_IN_THE_THIRD_TURN = """
import os, signal, sys
from diffcore_gpu.benchmarks.suites import run_suite
from diffcore_gpu.benchmarks.training.step import Trainer
row, calls = Trainer.row, []
def killed(*arguments):
    calls.append(arguments)
    if len(calls) == 4 * 3 + 2:  # four methods: a turn of warming up, two whole turns, and in the next one
        os.kill(os.getpid(), signal.SIGKILL)
    return row(*arguments)
Trainer.row = killed
run_suite("overhead", sys.argv[1:])
"""
TINY = [*TINY_STEPS, "--repeats", "3"]


def test_methods_are_measured_or_say_why_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "overhead.json"
    arguments = [*TINY, "--json", str(path), "--methods", "diffcore-mix", "mixup", "snapmix", "guided-ap-greedy"]
    run_suite("overhead", [*arguments, "--batch", "4"])
    peers, others = read_result(path, "overhead")["results"]
    assert (peers["block"], set(peers["times"])) == ("peers", {"vanilla", "vanilla again", "diffcore-mix", "mixup"})
    assert (others["block"], set(others["times"])) == ("others", {"vanilla", "vanilla again", "guided-ap-greedy"})
    assert peers["failed"] == {}
    assert others["failed"]["snapmix"].startswith("SnapMix needs a model that pools its last")
    for found in (peers, others):
        assert found["turns"] == 3
        assert "unfinished" not in found
        assert all(len(time["samples_ms"]) == 3 for time in found["times"].values())
        assert list(found["stages"]) == list(found["stage_samples"]) == list(found["times"])
        assert all(set(stages) == {"load_ms", "mix_ms", "train_ms"} for stages in found["stages"].values())
    shown = capsys.readouterr().out
    assert "A_O, %" in shown
    assert "snapmix failed: SnapMix needs" in shown
    assert {line.split("  ")[0] for line in shown.splitlines()} >= {"vanilla again", "vanilla again (others)"}
    assert "A/A (vanilla against vanilla): batch 4 " in shown

    run_suite("overhead", [*arguments, "--batch", "4", "2", "--budget-minutes", "0"])
    assert read_result(path)["results"] == [peers, others]  # kept, and nothing else was begun
    assert "before the end of batch 2" in capsys.readouterr().out


def test_a_run_that_was_killed_goes_on_with_the_next_turn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "overhead.json"
    arguments = [*TINY, "--repeats", "4", "--json", str(path), "--batch", "4", "--methods", "mixup", "diffcore-mix"]
    killed = subprocess.run([sys.executable, "-c", KILLED_IN_THE_THIRD_TURN, *arguments], check=False, cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    (before,) = read_result(path)["results"]
    assert (before["turns"], before["unfinished"]) == (2, True)
    run_suite("report", [str(path), "--out", str(tmp_path / "report.html")])
    assert "Unfinished: 2 of 4 turns at batch 4 (peers)." in (tmp_path / "report.html").read_text()

    run_suite("overhead", [*arguments, "--budget-minutes", "1e-9"])  # nothing is begun, and nothing is lost
    assert read_result(path)["results"] == [before]
    assert "Unfinished: 2 of 4 turns at batch 4 (peers)." in capsys.readouterr().out
    run_suite("overhead", arguments)
    (after,) = read_result(path)["results"]
    assert after["turns"] == 4
    assert "unfinished" not in after
    assert set(after["times"]) == {"vanilla", "vanilla again", "mixup", "diffcore-mix"}
    for name, time in after["times"].items():
        assert len(time["samples_ms"]) == 4
        assert time["samples_ms"][:2] == before["times"][name]["samples_ms"]
        assert after["stage_samples"][name]["mix_ms"][:2] == before["stage_samples"][name]["mix_ms"]
    assert "Unfinished" not in capsys.readouterr().out


def test_a_budget_ends_a_run_between_two_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "overhead.json"
    arguments = [*TINY, "--json", str(path), "--batch", "4", "--methods", "mixup", "--budget-minutes", "9"]
    clock = iter([0.0, 0.0, *[541.0] * 99])  # the beginning, before the part, after the first turn
    with monkeypatch.context() as patch:
        patch.setattr("diffcore_gpu.benchmarks.harness.runs.time.monotonic", lambda: next(clock))
        run_suite("overhead", arguments)
    (found,) = read_result(path)["results"]
    assert found["turns"] == 1


@pytest.mark.parametrize(("residency", "found"), [("auto", "disk"), ("device", "device"), ("host", "host")])
def test_counterparts_come_from_where_they_are_said_to_live(tmp_path: Path, residency: str, found: str) -> None:
    path = tmp_path / "overhead.json"
    arguments = [*TINY, "--json", str(path), "--batch", "4", "--methods", "diffcore-mix", "--residency", residency]
    run_suite("overhead", arguments)
    result = read_result(path)
    assert result["setting"]["residency"] == residency
    (part,) = result["results"]
    assert part["failed"] == {}
    assert part["residency"] == found
    assert ("loader_share" in part) == (residency == "host")  # all batches come by a PrefetchLoader then
    with pytest.raises(BenchmarkError, match=f"residency is 'disk' here and '{residency}' there"):
        run_suite("overhead", [*arguments, "--residency", "disk"])


def test_the_quick_methods_come_first_at_every_batch_size() -> None:
    found = parts(["augmix", "cutmix", "diffcore-mix"], [16, 32])
    assert [(part["block"], part["batch"]) for part in found] == [
        ("peers", 16), ("peers", 32), ("others", 16), ("others", 32),
    ]  # fmt: skip
    assert blocks(["augmix", "cutmix", "diffcore-mix"]) == {
        "peers": ["vanilla", "vanilla again", "cutmix", "diffcore-mix"],
        "others": ["vanilla", "vanilla again", "augmix"],
    }
    assert list(blocks(["augmix"])) == ["others"]


def test_a_slow_method_that_breaks_the_run_leaves_the_quick_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(name: str, num_classes: int, store: CounterpartStore) -> Mix:
        if name == "augmix":
            raise KeyError("a fault of the program")
        return make_mix(name, num_classes, store)

    monkeypatch.setattr(step_run, "make_mix", broken)
    path = tmp_path / "overhead.json"
    with pytest.raises(KeyError):
        run_suite("overhead", [*TINY, "--json", str(path), "--batch", "2", "4", "--methods", "augmix", "diffcore-mix"])
    found = read_result(path)["results"]
    assert [(part["batch"], part["block"], part["turns"]) for part in found] == [(2, "peers", 3), (4, "peers", 3)]


def test_a_batch_of_one_fails_only_where_pairs_are_needed(tmp_path: Path) -> None:
    path = tmp_path / "overhead.json"
    methods = ["diffcore-mix", "mixup", "guided-sr-random", "comixup"]
    run_suite("overhead", [*TINY, "--json", str(path), "--methods", *methods, "--batch", "1"])
    peers, others = read_result(path)["results"]
    assert set(peers["times"]) == {"vanilla", "vanilla again", "diffcore-mix"}
    assert set(peers["failed"]) == {"mixup"}
    assert set(others["failed"]) == {"guided-sr-random", "comixup"}
    assert "a batch of 1 is too small" in peers["failed"]["mixup"]


def test_steps_that_fail_without_a_method_are_rows_that_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    """ResNet's last stage has one value per channel at 32 pixels, too few to normalize one image by."""
    run_suite("overhead", [*TINY, "--model", "resnet18", "--batch", "1", "--methods", "diffcore-mix"])
    shown = capsys.readouterr().out
    assert "vanilla failed: " in shown
    assert "diffcore-mix failed: " in shown


def test_the_papers_column_stands_beside_ours() -> None:
    result = sample("overhead")
    lines = overhead.report(result).splitlines()
    assert lines[0].split()[-3:] == ["waited", "for", "loader"]
    assert lines[3].split()[-2:] == ["+68.2", "20.0%"]
    assert lines[1].split()[-1] == "–"  # no share was told
    assert "+3.0 (noise)" in lines[3]
    assert "(noise)" not in lines[4]
    assert "12.62" in lines[3]  # of the step of 103 ms, 13 ms
    assert [line.split("  ")[0] for line in lines[5:8]] == ["vanilla (others)", "vanilla again (others)", "saliencymix"]
    assert lines[8] == "puzzlemix failed: there is no gco"
    assert lines[10].startswith("batch 24")
    assert "A/A (vanilla against vanilla): batch 16 +0.5" in lines[-2]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model", "resnet5O"], "there is no model 'resnet5O'; did you mean resnet50"),
        (["--model", "vit_b_16"], "vit_b_16 cannot be trained on images of 32×32: Wrong image height"),
        (["--model", "alexnet"], "alexnet cannot be trained on images of 32×32: "),
        (["--store", "s"], "--store needs --real"),
    ],
)
def test_what_cannot_be_measured_is_refused_first(arguments: list[str], sentence: str) -> None:
    with pytest.raises(BenchmarkError, match=sentence):
        run_suite("overhead", ["--device", "cpu", "--size", "32", *arguments])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--methods", "cutmx"], "there is no method 'cutmx'; did you mean cutmix"),
        (["--methods", "mixup", "cutmx"], "there is no method 'cutmx'; did you mean cutmix"),
        (["--residency", "dsk"], "there is no residency 'dsk'; did you mean disk"),
        (["--repeats", "1"], "--repeats must be 2 or more"),
    ],
)
def test_bad_usage(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run_suite("overhead", arguments)
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err
