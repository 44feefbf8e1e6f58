"""What the suite calls right, and that it says so when something is not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from diffcore_gpu.benchmarks.harness.result_file import read_result
from diffcore_gpu.benchmarks.ops import launches, smoke
from diffcore_gpu.benchmarks.suites import run_suite
from diffcore_gpu.errors import BenchmarkError

SMALL = ["--device", "cpu", "--size", "16", "--batch", "4"]


def test_every_dtype_and_format_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "smoke.json"
    run_suite("smoke", [*SMALL, "--json", str(path)])
    rows = read_result(path, "smoke")["results"]
    assert len(rows) == 8
    assert all(row["right"] for row in rows)
    assert capsys.readouterr().out.count(" yes\n") == 8


@pytest.mark.parametrize(
    ("function", "wrong"), [("mix_reference", {}), ("crop_mix_reference", {"crop": 1}), ("draw_plan", {"seed": 1})]
)
def test_a_difference_is_an_error_that_names_the_row(
    function: str, wrong: dict[str, int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = getattr(smoke, function)

    def other(*arguments: object, **settings: object) -> object:
        if function == "draw_plan":
            return right(*arguments, **settings, **wrong)
        return right(*arguments, **settings) + 1

    monkeypatch.setattr(smoke, function, other)
    with pytest.raises(BenchmarkError, match="not what the reference says for uint8 contiguous"):
        run_suite("smoke", [*SMALL, "--dtype", "uint8", "--format", "contiguous"])
    assert " NO\n" in capsys.readouterr().out


def test_last_places() -> None:
    one = torch.tensor([1.0, -2.0, 0.0, 1e-30])
    assert smoke.last_places(one, one, one.abs()) == 0
    next_one = torch.nextafter(one, torch.tensor(torch.inf))
    assert smoke.last_places(next_one, one, one.abs()) == pytest.approx(1, rel=1e-4)
    assert smoke.last_places(torch.tensor([torch.nan]), torch.tensor([1.0]), torch.tensor([1.0])) == torch.inf
    assert smoke.last_places(torch.tensor([7], dtype=torch.uint8), torch.tensor([4], dtype=torch.uint8), one) == 3
    cancelled = torch.tensor([1e-20]), torch.tensor([2e-20]), torch.tensor([1.0])
    assert smoke.last_places(*cancelled) == 0
    found, expected, scale = torch.tensor([2.0**-20]), torch.tensor([2.0**-20 + 2.0**-23]), torch.tensor([1.0])
    assert smoke.last_places(found, expected, scale) > 1e6
    assert smoke.last_places(found.half(), expected.half(), scale) == 0


def test_launches_for_a_profiler(capsys: pytest.CaptureFixture[str]) -> None:
    launches.main(device="cpu", size=16, batch=2)
    assert [line.split(",")[0] for line in capsys.readouterr().out.splitlines()] == [
        "mix of contiguous",
        "mix of channels_last",
        "crop and mix",
    ]
