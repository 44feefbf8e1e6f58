"""Small folders of real image files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def _picture(seed: int, width: int = 24, height: int = 20) -> Image.Image:
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture
def picture() -> Callable[..., Image.Image]:
    """Makes an RGB image of noise from (seed, width, height)."""
    return _picture


@pytest.fixture
def make_tree(tmp_path: Path) -> Callable[[str, Iterable[str]], Path]:
    """Makes a folder with an image, different each time, at each of the names."""

    def make(folder: str, names: Iterable[str]) -> Path:
        root = tmp_path / folder
        for seed, name in enumerate(names):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            _picture(seed + len(folder) * 1000).save(path)
        return root

    return make
