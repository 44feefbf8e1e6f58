"""`diffcore bench`: the suites are listed, an unknown one is bad usage, and arguments reach the suite."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffcore_gpu.benchmarks.harness.result_file import read_result
from diffcore_gpu.benchmarks.suites import SUITES
from diffcore_gpu.cli import main


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_the_suites_are_listed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *arguments]) == 0
    shown = capsys.readouterr().out
    words = " ".join(shown.split())
    for name, (_, what) in SUITES.items():
        assert f" {name} {what} " in words


def test_an_unknown_suite_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "overheat"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "there is no suite 'overheat'; did you mean overhead" in error
    assert main(["bench", "--nonsense"]) == 2
    assert "--nonsense" in capsys.readouterr().err.splitlines()[-1]


def test_a_suite_without_its_packages_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'timm'", name="timm")

    monkeypatch.setattr("diffcore_gpu.benchmarks.suites.import_module", missing)
    assert main(["bench", "peers", "--help"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == (
        "diffcore: peers needs timm, which is not installed: pip install 'diffcore-gpu[bench,demo]' installs it.\n"
    )


def test_arguments_are_the_suites(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bandwidth.json"
    settings = ["--device", "cpu", "--batch", "2", "--size", "16", "--dtype", "uint8", "--format", "contiguous"]
    assert main(["bench", "bandwidth", *settings, "--repeats", "2", "--json", str(path)]) == 0
    assert read_result(path)["environment"]["command"].startswith("diffcore bench bandwidth --device cpu")
    assert "2×3×16×16 uint8, 3 sets" in capsys.readouterr().out

    assert main(["bench", "bandwidth", "--size", "0"]) == 2
    assert main(["bench", "bandwidth", "--help"]) == 0
    capsys.readouterr()
    assert main(["bench", "bandwidth", *settings, "--repeats", "3", "--json", str(path)]) == 1
    assert "holds another run (repeats is 3 here" in capsys.readouterr().err
