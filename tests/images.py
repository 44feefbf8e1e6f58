"""Image files of noise for tests."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image


def write_noise(folder: Path, names: Iterable[str], height: int = 20, width: int = 24, seed: int = 0) -> Path:
    """Below a folder, an RGB image of noise for each of the names, all different; the folder."""
    random = np.random.default_rng(seed)
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    return folder
