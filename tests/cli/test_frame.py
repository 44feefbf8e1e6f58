"""What all commands share: exit codes, messages, speed of --help, a reader that goes away."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import diffcore_gpu
from diffcore_gpu.cli import console
from tests.cli.conftest import Folders, Run
from tests.programs import run_python


def process(*arguments: object) -> list[str]:
    code = "import sys; from diffcore_gpu.cli import main; sys.exit(main())"
    return [sys.executable, "-c", code, *map(str, arguments)]


def test_version(run: Run) -> None:
    assert run("--version") == (f"diffcore {diffcore_gpu.__version__}\n", "")


@pytest.mark.parametrize("command", ["pack", "inspect", "verify", "merge", "rebind", "prune", "convert"])
def test_help(run: Run, command: str) -> None:
    assert command in run("--help").out
    outcome = run(command, "--help")
    assert "--json" in outcome.out


@pytest.mark.parametrize(
    "arguments", [["--help"], ["pack", "--help"], ["bench"], ["bench", "--help"], ["bench", "peer"]]
)
def test_help_does_not_wait_for_torch(arguments: list[str]) -> None:
    code = (
        "import sys; from diffcore_gpu.cli import main; main(sys.argv[1:]);"
        "print({'torch', 'numpy', 'PIL', 'triton', 'matplotlib', 'timm'} & set(sys.modules))"
    )
    assert run_python("-c", code, *arguments).splitlines()[-1] == "set()"


@pytest.mark.parametrize(
    "arguments",
    [
        ("unknown",),
        ("pack",),
        ("pack", "--nonsense"),
        ("verify",),
        ("inspect", "store", "--samples", "0"),
        ("inspect", "store", "--out", "sheet.png"),
        ("inspect", "store", "--real", "real", "--out", "sheet.jpg"),
    ],
)
def test_bad_usage(run: Run, arguments: tuple[str, ...]) -> None:
    outcome = run(*arguments, code=2)
    assert outcome.out == ""
    assert "Error: " in outcome.err


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_no_store(run: Run, tmp_path: Path, command: str) -> None:
    outcome = run(command, tmp_path / "missing", code=1)
    assert outcome.out == ""
    assert outcome.err.startswith("diffcore: ")
    assert outcome.err.count("\n") == 1
    assert "missing" in outcome.err


def test_a_reader_that_goes_away(packed: Folders) -> None:
    with subprocess.Popen(
        process("inspect", packed.store), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        errors = child.stderr.read()
    assert child.returncode == 1
    assert errors == ""


def test_terminal_that_knows_only_ascii(folders: Folders) -> None:
    command = process(
        "pack", "--real", folders.real, "--generated", folders.generated, "--out", folders.store, "--size", 32
    )
    environment = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    result = subprocess.run(command, check=False, capture_output=True, env=environment)
    assert result.returncode == 0, result.stderr
    assert rb"b/[bold]red[i] \u03bb.png: grey" in result.stdout


def test_control_characters_are_escaped() -> None:
    assert console.printable("a\x1b[31m\nb é [c] \udcff") == "a\\x1b[31m\\nb é [c] \\udcff"


def test_columns(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_table([("name", "rows"), ("a", "10"), ("long name", "3")])
    assert capsys.readouterr().out == "  name       rows\n  a            10\n  long name     3\n"


def test_size_text() -> None:
    assert [console.size_text(n) for n in (5, 2048, 3 << 29, 1 << 50)] == [
        "5 bytes",
        "2.0 KiB",
        "1.5 GiB",
        "1024.0 TiB",
    ]


def test_progress_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress_bars() as bar:
        progress = bar("Packing", "images")
        for done in range(1, 1001):
            progress(done, 1000)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[-1] == "Packing: 1000 of 1000 images"
