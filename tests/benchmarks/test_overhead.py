"""The overhead of eq. 9: that every method is measured or says why not."""

from pathlib import Path

import pytest

from diffcore_gpu.benchmarks import overhead
from diffcore_gpu.benchmarks.errors import BenchmarkError
from diffcore_gpu.benchmarks.result_file import read_result
from tests.benchmarks.reporting.samples import sample

for package in ("torchvision", "timm"):
    pytest.importorskip(package, reason=f"the benchmark of overheads needs {package}")

TINY = [
    "--device",
    "cpu",
    "--model",
    "squeezenet1_1",
    "--size",
    "32",
    "--repeats",
    "3",
    "--warmup",
    "1",
    "--steps",
    "2",
]


def test_methods_are_measured_or_say_why_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "overhead.json"
    arguments = [*TINY, "--json", str(path), "--methods", "diffcore-mix", "mixup", "snapmix", "guided-ap-greedy"]
    overhead.main([*arguments, "--batch", "4"])
    (found,) = read_result(path, "overhead")["results"]
    assert list(found["times"]) == ["vanilla", "diffcore-mix", "mixup", "guided-ap-greedy"]
    assert found["failed"]["snapmix"].startswith("SnapMix needs a model that pools its last")
    assert all(len(time["samples_ms"]) == 3 for time in found["times"].values())
    assert list(found["stages"]) == list(found["times"])
    assert all(set(stages) == {"load_ms", "mix_ms", "train_ms"} for stages in found["stages"].values())
    shown = capsys.readouterr().out
    assert "A_O, %" in shown
    assert "snapmix failed: SnapMix needs" in shown

    overhead.main([*arguments, "--batch", "4", "2", "--budget-minutes", "0"])
    assert [part["batch"] for part in read_result(path)["results"]] == [4]  # kept, and nothing else was begun
    assert "before the end of batch 2" in capsys.readouterr().out


def test_a_batch_of_one_fails_only_where_pairs_are_needed(tmp_path: Path) -> None:
    path = tmp_path / "overhead.json"
    methods = ["diffcore-mix", "mixup", "guided-sr-random", "comixup"]
    overhead.main([*TINY, "--json", str(path), "--methods", *methods, "--batch", "1"])
    (found,) = read_result(path)["results"]
    assert set(found["times"]) == {"vanilla", "diffcore-mix"}
    assert set(found["failed"]) == {"mixup", "guided-sr-random", "comixup"}
    assert "a batch of 1 is too small" in found["failed"]["mixup"]


def test_steps_that_fail_without_a_method_are_rows_that_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    """ResNet's last stage has one value per channel at 32 pixels, too few to normalize one image by."""
    overhead.main([*TINY, "--model", "resnet18", "--batch", "1", "--methods", "diffcore-mix"])
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
        (["--repeats", "1"], "--repeats must be 2 or more"),
        (["--store", "s"], "--store needs --data"),
    ],
)
def test_what_cannot_be_measured_is_refused_first(arguments: list[str], sentence: str) -> None:
    with pytest.raises(BenchmarkError, match=sentence):
        overhead.main(["--device", "cpu", "--size", "32", *arguments])


def test_an_unknown_method_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        overhead.main(["--methods", "cutmx"])
    assert "there is no method 'cutmx'; did you mean cutmix" in capsys.readouterr().err
