"""The overhead of eq. 9: its arithmetic, and that every method is measured or says why not."""

import json
from pathlib import Path

import overhead
import pytest

for package in ("torchvision", "timm"):
    pytest.importorskip(package, reason=f"the benchmark of overheads needs {package}")


def test_the_overhead_is_that_of_paired_steps() -> None:
    vanilla = [1.0, 2.0, 4.0, 1.0, 2.0]
    found = overhead.overhead([value * 1.5 for value in vanilla], vanilla)
    assert found == {"percent": 50.0, "low": 50.0, "high": 50.0}
    found = overhead.overhead([1.1, 2.0, 4.0, 0.9, 2.4], vanilla)
    assert found["percent"] == 0.0
    assert found["low"] == pytest.approx(-10)
    assert found["high"] == pytest.approx(20)


def test_the_interval_holds_the_median_with_95_percent() -> None:
    """Of 20 values, the 6th smallest and largest: the table of the sign test."""
    values = [1 + k / 100 for k in range(20)]
    found = overhead.overhead(values, [1.0] * 20)
    assert (found["low"], found["high"]) == (pytest.approx(5.0), pytest.approx(14.0))


def test_methods_are_measured_or_say_why_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "overhead.json"
    arguments = [
        "--device", "cpu", "--model", "squeezenet1_1", "--size", "32", "--batch", "4", "--repeats", "3",
        "--warmup", "0", "--json", str(path), "--methods", "diffcore-mix", "mixup", "snapmix", "guided-ap-greedy",
    ]  # fmt: skip
    result = overhead.run(overhead.parse(arguments))
    (found,) = result["results"]
    assert set(found["times"]) | set(found["failed"]) >= {"vanilla", "diffcore-mix", "mixup", "guided-ap-greedy"}
    assert "mixup" in found["overheads"]
    assert set(found["overheads"]) | set(found["failed"]) == {"diffcore-mix", "mixup", "snapmix", "guided-ap-greedy"}
    assert all(len(time["samples_ms"]) == 3 for time in found["times"].values())
    assert json.loads(path.read_text())["setting"]["model"] == "squeezenet1_1"
    assert "A_O, %" in capsys.readouterr().out

    again = overhead.run(overhead.parse([*arguments, "--batch", "4", "2", "--budget-minutes", "0"]))
    assert [part["batch"] for part in again["results"]] == [4]  # kept, and nothing else was begun
    assert "Batch 2 was not begun" in capsys.readouterr().out


def test_the_papers_column_stands_beside_ours() -> None:
    time = {"median_ms": 1.0}
    one = {"percent": 0.2, "low": -0.5, "high": 0.9}
    result = {
        "batch": 32,
        "times": {"vanilla": time, "diffcore-mix": time, "augmix": time},
        "overheads": {"diffcore-mix": one, "augmix": {**one, "low": 0.1}},
        "failed": {"comixup": "no memory"},
    }
    lines = overhead.report(result).splitlines()
    assert lines[2].split()[-1] == "+59.3"
    assert "+0.2 (noise)" in lines[2]
    assert "(noise)" not in lines[3]
    assert lines[4] == "comixup failed: no memory"


def test_an_unknown_model_is_refused_with_the_nearest() -> None:
    with pytest.raises(SystemExit, match="no model 'resnet5O'; did you mean resnet50"):
        overhead.make_model("resnet5O", overhead.torch.device("cpu"), "contiguous")
