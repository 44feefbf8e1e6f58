"""`diffcore bench`: the suites are listed, an unknown one is bad usage, and arguments reach the suite."""

from pathlib import Path

import pytest

from diffcore_gpu.benchmarks.result_file import read_result
from diffcore_gpu.benchmarks.suites import SUITES
from diffcore_gpu.cli import main


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_the_suites_are_listed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *arguments]) == 0
    shown = capsys.readouterr().out
    for name, (_, what) in SUITES.items():
        assert f"{name:18} {what}"[:60] in shown


def test_an_unknown_suite_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "overheat"]) == 2
    assert "there is no suite 'overheat'; did you mean overhead" in capsys.readouterr().err


def test_arguments_are_the_suites(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "host.json"
    settings = ["--device", "cpu", "--batch", "2", "--size", "16", "--repeats", "2"]
    assert main(["bench", "host-overhead", *settings, "--json", str(path)]) == 0
    assert read_result(path)["environment"]["command"].startswith("diffcore bench host-overhead --device cpu")
    assert "operator dispatch" in capsys.readouterr().out

    assert main(["bench", "host-overhead", "--size", "0"]) == 2
    assert main(["bench", "host-overhead", "--help"]) == 0
    capsys.readouterr()
    assert main(["bench", "host-overhead", *settings, "--dtype", "float32", "--json", str(path)]) == 1
    assert "holds another run (dtype is 'float32' here" in capsys.readouterr().err
