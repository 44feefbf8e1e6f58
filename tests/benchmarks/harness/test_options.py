"""The suites' command lines: what they refuse, several values of an option, and the command that results hold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
import typer

from diffcore_gpu.benchmarks.harness.command import output_of, repeated, suite_command
from diffcore_gpu.benchmarks.harness.options import (
    BatchSizes,
    Device,
    Json,
    Real,
    Spread,
    Store,
    Threads,
    choice,
    device_of,
    not_negative,
    number,
    use_threads,
)
from diffcore_gpu.errors import BenchmarkError

SIZES = [16, 32]
found: dict[str, Any] = {}


def some(
    context: typer.Context,
    device: Device = "cpu",
    method: Annotated[str, choice("--method", "How", "method", ["mixup", "cutmix", "augmix"])] = "mixup",
    batch: BatchSizes = SIZES,
    workers: Annotated[int, number("--workers", "Of the loader.", not_negative)] = 1,
    shift: Annotated[list[int] | None, number("--shift", "Up or down.", int)] = None,
    repeats: Spread = 2,
    real: Real = None,
    store: Store = None,
    threads: Threads = None,
    json: Json = None,
) -> None:
    """Keep what is given."""
    found.update(locals(), command=output_of(context, json).command)


def run(*arguments: str) -> dict[str, Any]:
    found.clear()
    suite_command("some", some, "What it measures.\n\n    diffcore bench some").main(
        list(arguments), prog_name="diffcore bench some", standalone_mode=False
    )
    return found


def test_the_command_is_kept_without_folders_of_the_machine() -> None:
    options = run("--batch", "1", "2", "--data", "/elsewhere/birds", "--json=/secret/r.json")
    assert options["command"] == "diffcore bench some --batch 1 2 --data birds --json=r.json"
    assert options["batch"] == [1, 2]
    assert options["real"] == Path("/elsewhere/birds")
    assert options["json"] == Path("/secret/r.json")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--batch", "1", "2", "3", "--repeats", "4"),
        ("--batch", "1", "--batch", "2", "3", "--repeats", "4"),
        ("--batch=1", "--repeats", "4", "--batch", "2", "3"),
        ("--repeats", "4", "--batch", "1", "--batch=2", "--batch", "3"),
    ],
)
def test_an_option_takes_several_values_or_is_repeated(arguments: tuple[str, ...]) -> None:
    options = run(*arguments)
    assert (options["batch"], options["repeats"]) == ([1, 2, 3], 4)


def test_what_is_not_given_has_its_default() -> None:
    options = run()
    assert (options["batch"], options["shift"], options["method"], options["device"]) == (SIZES, None, "mixup", "cpu")


def test_numbers_below_zero_are_values_and_options_are_not() -> None:
    assert run("--shift", "0", "-1", "--workers", "0")["shift"] == [0, -1]
    assert repeated(["--a", "1", "-2", "--b", "3", "4"], {"--a"}) == ["--a", "1", "--a", "-2", "--b", "3", "4"]


@pytest.mark.parametrize(("older", "newer"), [(["--data", "birds"], "birds"), (["--data=a=b"], "a=b")])
def test_an_older_spelling_is_read_and_not_shown(
    older: list[str], newer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*older)["real"] == Path(newer)
    run("--help")
    shown = capsys.readouterr().out
    assert "--real" in shown
    assert "--data" not in shown


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--method", "cutmx"], "'--method': there is no method 'cutmx'; did you mean cutmix"),
        (["--method", "quite else"], "'--method': there is no method 'quite else'; known are mixup, cutmix, augmix."),
        (["--device", "gpu"], "'--device': there is no device 'gpu'; did you mean cpu?"),
        (["--batch", "0"], "'--batch': '0' is not a whole number from 1"),
        (["--batch", "1", "4.5"], "'--batch': '4.5' is not a whole number from 1"),
        (["--workers", "-1"], "'--workers': '-1' is not a whole number from 0"),
        (["--repeats", "1"], "--repeats must be 2 or more, so that there is a spread."),
        (["--metod", "mixup"], "--metod"),
        (["--batch"], "'--batch' requires an argument"),
        (["more"], "unexpected extra argument"),
    ],
)
def test_bad_usage_is_one_sentence(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        suite_command("some", some, "A suite.").main(arguments, prog_name="diffcore bench some")
    assert stop.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("Error: ")
    assert sentence in last


def test_no_workers_is_a_number_of_workers() -> None:
    assert run("--workers", "0")["workers"] == 0


def test_threads_are_those_asked_for_or_torchs_own() -> None:
    before = torch.get_num_threads()
    assert use_threads(None) == before
    try:
        assert use_threads(1) == torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of("cpu") == torch.device("cpu")
    with pytest.raises(
        BenchmarkError, match=r"--device cuda measures a GPU, and torch finds none here; use --device cpu"
    ):
        device_of("cuda")
