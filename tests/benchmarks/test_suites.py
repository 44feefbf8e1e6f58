"""Every suite is there, tells its options, and says what is missing."""

from __future__ import annotations

import importlib
import json
import shlex
import sys
from itertools import takewhile
from pathlib import Path

import pytest

from diffcore_gpu.benchmarks.harness.result_file import read_result
from diffcore_gpu.benchmarks.suites import SUITES, load_suite, run_suite
from diffcore_gpu.cli import main
from diffcore_gpu.errors import BenchmarkError, nearest


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_shows_its_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"Usage: diffcore bench {name} ")
    module = importlib.import_module(f"diffcore_gpu.benchmarks.{SUITES[name][0]}")
    assert {line.strip() for line in (module.__doc__ or "").splitlines()} <= {
        line.strip() for line in shown.splitlines()
    }
    assert f"    diffcore bench {name} " in shown  # an example of its use


@pytest.mark.parametrize("name", ["bandwidth", "host-overhead", "overhead", "residency"])
def test_without_a_gpu_one_plain_sentence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BenchmarkError, match=r"^--device cuda measures a GPU, and torch finds none here"):
        run_suite(name, [])


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffcore_gpu.benchmarks.ops.peers", None)
    with pytest.raises(ModuleNotFoundError):  # one of our own modules: a fault, not a package to install
        run_suite("peers", [])
    monkeypatch.undo()

    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'timm'", name="timm")

    monkeypatch.setattr("diffcore_gpu.benchmarks.suites.import_module", missing)
    with pytest.raises(BenchmarkError, match=r"peers needs timm, which is not installed: pip install 'diffcore-gpu\[b"):
        run_suite("peers", [])
    importlib.import_module("diffcore_gpu.benchmarks.ops.peers")


RECORDED = sorted(
    {
        json.loads(path.read_text())["environment"]["command"]
        for path in (Path(__file__).resolve().parents[2] / "benchmarks" / "results").rglob("*.json")
    }
)


@pytest.mark.parametrize("command", RECORDED)
def test_recorded_commands_are_still_read(command: str) -> None:
    program, bench, name, *arguments = shlex.split(command)
    assert (program, bench) == ("diffcore", "bench")
    read = load_suite(name).make_context(name, arguments).params
    assert read["json"].suffix == ".json"
    if "--batch" in arguments:
        after = arguments[arguments.index("--batch") + 1 :]
        sizes = read["batch"] if isinstance(read["batch"], list) else [read["batch"]]  # of some suites there is one
        assert sizes == [int(value) for value in takewhile(str.isdecimal, after)]
    if "--data" in arguments:
        assert read["real"] == Path(arguments[arguments.index("--data") + 1])


def test_nearest_names() -> None:
    assert nearest("resnet5O", ["resnet50", "vgg11", "resnet50"]) == "did you mean resnet50?"
    assert nearest("x", ["aa", "bb"]) == "known are aa, bb."
    assert nearest("x", ["aa", "bb"], "see the list.") == "see the list."


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("peers", ["--size", "16", "--repeats", "2"]),
        ("bandwidth", ["--size", "16", "--repeats", "2", "--dtype", "float32", "uint8", "--format", "channels_last"]),
        ("geometry", ["--model", "squeezenet1_1", "--raw", "40", "--size", "32", "--repeats", "2"]),
        ("residency", ["--model", "squeezenet1_1", "--size", "32", "--steps", "2", "--rounds", "2"]),
    ],
)
def test_suites_run_on_the_cpu(
    name: str, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For real, at a tiny size; the other suites are run by their own tests."""
    for package in ("torchvision", "timm", "kornia"):
        pytest.importorskip(package, reason=f"the suites need {package}")
    path = tmp_path / "result.json"
    run_suite(name, ["--device", "cpu", "--batch", "2", *arguments, "--json", str(path)])
    result = read_result(path, name)
    assert {found["batch"] for found in result["results"]} == {2}
    assert "samples_ms" in path.read_text()
    assert capsys.readouterr().out
