"""Overhead against accuracy: what is matched, what is left out and said so, and what is refused."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the plot needs matplotlib")

from PIL import Image

from diffcore_gpu.benchmarks.harness.result_file import read_result, write_result
from diffcore_gpu.benchmarks.suites import run_suite
from diffcore_gpu.errors import BenchmarkError
from tests.benchmarks.reporting.samples import sample


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a result of each of the two suites."""
    write_result(tmp_path / "overhead.json", sample("overhead"))
    write_result(tmp_path / "train.json", sample("train"))
    return tmp_path


def run(folder: Path, *arguments: Any) -> dict[str, Any]:
    common = ["--overhead", folder / "overhead.json", "--out", folder / "new" / "plot.png"]
    run_suite("overhead-accuracy", list(map(str, [*common, "--json", folder / "made.json", *arguments])))
    return read_result(folder / "made.json", "overhead-accuracy")


def trained(folder: Path, *arguments: Any) -> dict[str, Any]:
    return run(folder, "--train", folder / "train.json", *arguments)


def test_measured_accuracies_stand_beside_measured_overheads(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = trained(files, "--split", "val")
    found = {entry["arm"]: entry for entry in result["results"]}
    assert list(found) == ["vanilla", "diffcore-mix-100", "diffcore-mix-50", "mixup"]
    assert found["vanilla"]["overhead"] == {"percent": 0, "low": 0, "high": 0}
    for arm in ("diffcore-mix-50", "diffcore-mix-100"):
        assert found[arm]["method"] == "diffcore-mix"
        assert found[arm]["overhead"] == pytest.approx({"percent": 3.0, "low": -0.5, "high": 4.0})
    np.testing.assert_allclose(found["vanilla"]["accuracy"]["mean"], 85.5)
    np.testing.assert_allclose(found["vanilla"]["accuracy"]["deviation"], np.std([85, 86], ddof=1))
    assert found["mixup"]["accuracy"]["deviation"] is None
    assert [arm for arm, entry in found.items() if entry["pareto_optimal"]] == ["vanilla", "diffcore-mix-100", "mixup"]
    assert result["left_out"] == {
        "comixup": "no overhead and no accuracy, its training failed: diverged at epoch 2",
        "puzzlemix": "no overhead and no accuracy, its steps failed: there is no gco",
        "saliencymix": "no accuracy",
    }
    assert result["environment"]["cpu"] == "Some CPU"
    assert result["environment"]["command"].startswith("diffcore bench overhead-accuracy --overhead overhead.json")
    assert result["setting"]["accuracies"] == "measured"
    assert result["setting"]["train"] == {
        "file": "train.json",
        "command": "diffcore bench something --json something.json",
    }
    shown = capsys.readouterr().out
    assert "puzzlemix" in shown
    rows = {line.split()[0]: line.split() for line in shown.splitlines() if line}
    assert rows["diffcore-mix-100"][-4:] == ["±", "0.71", "2", "yes"]
    assert rows["diffcore-mix-50"][-1] == "no"
    assert "(noise)" in rows["diffcore-mix-50"]
    picture = Image.open(io.BytesIO((files / "new" / "plot.png").read_bytes()))
    assert min(picture.size) > 400


def test_the_papers_accuracies_are_called_the_papers(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(files, "--paper-accuracies")
    source = "the paper's, CUB, DenseNet-121"
    assert result["setting"]["accuracies"] == source
    assert {entry["source"] for entry in result["results"]} == {source}
    means = {entry["arm"]: entry["accuracy"]["mean"] for entry in result["results"]}
    assert means == {"mixup": 74.23, "saliencymix": 68.75, "diffcore-mix": 79.52}
    assert result["left_out"]["cutmix"] == "no overhead"
    assert result["left_out"]["puzzlemix"] == "no overhead, its steps failed: there is no gco"
    assert f"accuracies: {source}; overheads: measured here" in capsys.readouterr().out
    first = (files / "new" / "plot.png").read_bytes()
    run(files, "--paper-accuracies")
    assert (files / "new" / "plot.png").read_bytes() == first


def test_its_result_is_part_of_a_report(files: Path) -> None:
    trained(files, "--split", "val")
    run_suite("report", [str(files / "made.json"), "--out", str(files / "report.html")])
    html = (files / "report.html").read_text()
    assert "92.50 ± 0.71" in html
    assert "saliencymix" in html


def test_another_batch_size(files: Path) -> None:
    result = trained(files, "--split", "val", "--batch", "24")
    assert [entry["arm"] for entry in result["results"]] == ["vanilla", "mixup"]
    assert result["left_out"]["diffcore-mix-50"] == "no overhead"
    assert "vanilla again" not in str(trained(files, "--split", "val"))
    with pytest.raises(BenchmarkError, match=r"overhead.json: has no batch size 32; it has 16, 24\. --batch picks one"):
        trained(files, "--split", "val", "--batch", "32")


def test_variant_and_split_must_be_clear(files: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"train.json: has the splits val, test; --split picks one"):
        trained(files)
    with pytest.raises(BenchmarkError, match=r"train.json: has no split dev; it has val, test"):
        trained(files, "--split", "dev")
    with pytest.raises(BenchmarkError, match=r"train.json: has no variant birds; it has cars"):
        trained(files, "--split", "val", "--variant", "birds")
    result = sample("train")
    result["results"] += [{**entry, "variant": "birds"} for entry in result["results"] if entry["arm"] == "vanilla"]
    write_result(files / "train.json", result)
    with pytest.raises(BenchmarkError, match=r"train.json: has the variants cars, birds; --variant picks one"):
        trained(files, "--split", "val")
    assert [entry["arm"] for entry in trained(files, "--split", "val", "--variant", "birds")["results"]] == ["vanilla"]


def test_results_without_anything_in_common_are_refused(files: Path) -> None:
    result = sample("train")
    result["results"] = [{**entry, "arm": "genaug"} for entry in result["results"] if "splits" in entry]
    write_result(files / "train.json", result)
    with pytest.raises(
        BenchmarkError, match=r"none of its methods \(vanilla, .*\) has an accuracy; those .* are genaug"
    ):
        trained(files, "--split", "val")
    write_result(files / "train.json", {**result, "results": []})
    with pytest.raises(BenchmarkError, match=r"train.json: no run of it has an accuracy"):
        trained(files)
    assert not (files / "new").exists()


def test_an_overhead_without_vanilla_steps_is_refused(files: Path) -> None:
    result = sample("overhead")
    for part in result["results"]:
        part["times"].pop("vanilla")
    write_result(files / "overhead.json", result)
    with pytest.raises(BenchmarkError, match="no method has an overhead at batch size 16; the vanilla steps failed"):
        trained(files, "--split", "val")


def test_the_wrong_files_are_refused(files: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"overhead.json: holds results of overhead, not of train"):
        run(files, "--train", files / "overhead.json")
    result = sample("overhead")
    del result["results"][0]["times"]
    write_result(files / "overhead.json", result)
    with pytest.raises(BenchmarkError, match=r"overhead.json: does not hold what a result of overhead holds"):
        run(files, "--paper-accuracies")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "come from --train or are --paper-accuracies: give one of the two"),
        (["--train", "a.json", "--paper-accuracies"], "give one of the two"),
        (["--paper-accuracies", "--split", "val"], "--variant and --split go with --train"),
        (["--paper-accuracies", "--out", "plot.svg"], "plot.svg is not the name of a PNG file"),
    ],
)
def test_a_command_line_that_is_not_clear(
    files: Path, arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        run(files, *arguments)
    assert stop.value.code == 2
    assert why in capsys.readouterr().err
