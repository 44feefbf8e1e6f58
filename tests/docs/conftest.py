"""What the pages' code finds in its folder: real images of three birds, generated ones, and the store of both."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffcore_gpu.cli import main

CLASSES = ("albatross", "cormorant", "wren")
PER_CLASS, SIZE = 8, 80


def _write_images(folder: Path, seed: int) -> None:
    generator = np.random.default_rng(seed)
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for number in range(PER_CLASS):
            pixels = generator.integers(0, 256, (5, 5, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((SIZE, SIZE)).save(folder / name / f"{seed}-{number}.png")


@pytest.fixture(scope="session")
def _birds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    real, generated = folder / "birds", folder / "birds-generated"
    _write_images(real, 0)
    _write_images(generated, 1)
    store = folder / "stores" / "birds"
    assert main(["pack", "--real", str(real), "--generated", str(generated), "--out", str(store), "--size", "64"]) == 0
    return folder


@pytest.fixture
def birds(_birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own for each page, which is the working folder while its code runs."""
    folder = tmp_path / "page"
    shutil.copytree(_birds, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DIFFCORE_CACHE", str(tmp_path / "cache"))
    return folder
