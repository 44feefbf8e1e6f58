"""Small folders of real image files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.images import write_noise


@pytest.fixture
def picture() -> Callable[..., Image.Image]:
    """Makes an RGB image of noise from (seed, width, height)."""

    def make(seed: int, width: int = 24, height: int = 20) -> Image.Image:
        return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))

    return make


@pytest.fixture
def make_tree(tmp_path: Path) -> Callable[[str, Iterable[str]], Path]:
    """Makes a folder with an image, different each time, at each of the names."""
    return lambda folder, names: write_noise(tmp_path / folder, names, seed=len(folder))
