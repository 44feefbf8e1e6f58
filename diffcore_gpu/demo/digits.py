"""The demo's images: scikit-learn's handwritten digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from diffcore_gpu.errors import DiffcoreError

SIZE = 32
"""Height and width of the images in pixels."""

Array = npt.NDArray[Any]


def load_digits() -> tuple[Array, Array]:
    """The 1,797 handwritten digits of the UCI set that scikit-learn carries in its package.

    Returns:
        float64 images [1797, 8, 8] with values from 0 to 16, and int64 labels [1797].

    Raises:
        DiffcoreError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits as load
    except ModuleNotFoundError:
        raise DiffcoreError("the demo needs scikit-learn; install it with: pip install 'diffcore-gpu[demo]'.") from None
    bunch = load()
    return bunch.images, bunch.target.astype(np.int64)


def split(labels: Array, per_class: int, seed: int) -> tuple[Array, Array, Array]:
    """Indices for three uses: half of each class to fit the generator, `per_class` to train on, the rest held out."""
    generator = np.random.default_rng(seed)
    parts: tuple[list[Array], ...] = ([], [], [])
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        half = len(members) // 2
        for part, chosen in zip(parts, np.split(members, [half, half + per_class]), strict=True):
            part.append(chosen)
    fitting, training, held_out = (np.sort(np.concatenate(part)) for part in parts)
    return fitting, training, held_out


def enlarge(image: Array) -> Array:
    """One digit [8, 8] with values from 0 to 16 as uint8 [32, 32]."""
    pixels = np.clip(np.round(image * (255 / 16)), 0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def write_real(folder: Path, images: Array, labels: Array) -> list[Path]:
    """An ImageFolder of grey PNG files; returns their paths in the order of the images."""
    paths = []
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / str(label) / f"digit-{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(enlarge(image)).save(path)
        paths.append(path)
    return paths
