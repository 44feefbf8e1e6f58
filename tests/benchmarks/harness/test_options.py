"""The suites' command lines: what they refuse, and the command that results hold."""

from __future__ import annotations

import pytest
import torch

from diffcore_gpu.benchmarks.harness.options import SuiteParser, device_of, not_negative, one_of, positive
from diffcore_gpu.errors import BenchmarkError


def parser() -> SuiteParser:
    made = SuiteParser("some", "What it measures.\n\n    diffcore bench some")
    made.add_device("cpu")
    made.add_argument("--method", type=one_of("method", ["mixup", "cutmix", "augmix"]))
    made.add_argument("--batch", type=positive, nargs="+")
    made.add_argument("--workers", type=not_negative)
    made.add_argument("--data")
    made.add_json()
    return made


def test_the_command_is_kept_without_folders_of_the_machine() -> None:
    options = parser().parse(["--batch", "1", "2", "--data", "/elsewhere/birds", "--json=/secret/r.json"])
    assert options.command == "diffcore bench some --batch 1 2 --data birds --json=r.json"
    assert options.batch == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--method", "cutmx"], "there is no method 'cutmx'; did you mean cutmix"),
        (["--method", "quite else"], "there is no method 'quite else'; known are mixup, cutmix, augmix."),
        (["--batch", "0"], "'0' is not a whole number from 1"),
        (["--batch", "4.5"], "'4.5' is not a whole number from 1"),
        (["--workers", "-1"], "'-1' is not a whole number from 0"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_bad_usage_is_one_sentence(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parser().parse(arguments)
    assert stop.value.code == 2
    assert f"diffcore bench some: error: {'' if 'nonsense' in sentence else 'argument '}" in (
        error := capsys.readouterr().err
    )
    assert sentence in error


def test_no_workers_is_a_number_of_workers() -> None:
    assert parser().parse(["--workers", "0"]).workers == 0


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of(parser().parse([])) == torch.device("cpu")
    with pytest.raises(
        BenchmarkError, match=r"--device cuda measures a GPU, and torch finds none here; use --device cpu"
    ):
        device_of(parser().parse(["--device", "cuda"]))
