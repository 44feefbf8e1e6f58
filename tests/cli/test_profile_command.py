"""`diffcore profile`: the table, the JSON and the trace, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Folders, Run

pytest.importorskip("torchvision", reason="the models come from torchvision")

QUICK = ("--model", "squeezenet1_1", "--batch-size", 2, "--steps", 1, "--device", "cpu")


def test_table_and_trace(run: Run, packed: Folders, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    outcome = run("profile", packed.store, *QUICK, "--trace", trace)
    for line in ("time per step", "transform", "bytes it must move", "copy on this device", "waited for the loader"):
        assert line in outcome.out
    assert str(trace) in outcome.out
    assert json.loads(trace.read_text())["traceEvents"]


def test_for_a_program(run: Run, packed: Folders) -> None:
    outcome = run("profile", packed.store, *QUICK, "--amp", "bf16", "--residency", "host", "--json")
    result = json.loads(outcome.out)
    assert (result["model"], result["batch_size"], result["steps"]) == ("squeezenet1_1", 2, 1)
    assert (result["amp"], result["residency"], result["device"]) == ("bf16", "host", "cpu")
    assert result["image_shape"] == [3, 32, 32]
    assert isinstance(result["device_waited_for_loader"], bool)
    assert result["trace"] is None
    assert result["step_seconds"] > result["mix_seconds"] > 0


def test_failures_are_one_sentence(run: Run, packed: Folders) -> None:
    outcome = run("profile", packed.store, "--device", "cpu", "--model", "nothing", code=1)
    assert outcome.out == ""
    assert "torchvision has no classifier named 'nothing'" in outcome.err.splitlines()[-1]
    run("profile", packed.real / "none", "--device", "cpu", code=1)


def test_bad_usage(run: Run, packed: Folders) -> None:
    run("profile", code=2)
    run("profile", packed.store, "--steps", 0, code=2)
    outcome = run("profile", packed.store, "--device", "toaster", code=2)
    assert "'toaster' is no device" in outcome.err


@pytest.mark.parametrize("older", ["--store {}", "--store={}"])
def test_an_older_spelling_of_the_store_is_read_and_not_shown(run: Run, packed: Folders, older: str) -> None:
    outcome = run("profile", *QUICK, "--json", *older.format(packed.store).split())
    assert json.loads(outcome.out)["store"] == str(packed.store)
    shown = run("profile", "--help").out
    assert " STORE" in shown.replace("{", " ")
    assert "--store" not in shown
