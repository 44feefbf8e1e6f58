"""Folders of images and a store packed from them by the command itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

from diffcore_gpu.cli import main
from tests.images import write_noise


class Outcome(NamedTuple):
    """What a run of the command left behind."""

    out: str
    err: str


class Folders(NamedTuple):
    """Where the images lie and the store is to be."""

    real: Path
    generated: Path
    store: Path


Run = Callable[..., Outcome]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `diffcore` with arguments, and fails unless it ends with the code."""

    def run(*arguments: object, code: int = 0) -> Outcome:
        ended = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert ended == code, captured.err
        return Outcome(captured.out, captured.err)

    return run


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """Three classes with real images; two of them have counterparts, one of which has an awkward name and is grey."""
    names = ("real/a/0.png", "real/a/1.png", "real/b/0.png", "real/c/0.png", "gen/a/x.png", "gen/a/y.png")
    write_noise(tmp_path, names, 40, 48)
    real, generated = tmp_path / "real", tmp_path / "gen"
    (generated / "b").mkdir()
    Image.new("L", (40, 40), 90).save(generated / "b" / "[bold]red[i] λ.png")
    return Folders(real, generated, tmp_path / "store")


@pytest.fixture
def packed(run: Run, folders: Folders) -> Folders:
    """The folders with the store in place."""
    run("pack", "--real", folders.real, "--generated", folders.generated, "--out", folders.store, "--size", 32)
    return folders
