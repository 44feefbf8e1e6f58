"""The demo's images: scikit-learn's handwritten digits, and counterparts from a small generative model of them."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from diffcore_gpu.errors import DiffcoreError

SIZE = 32
"""Height and width of the images in pixels."""

_COMPONENTS, _BANDWIDTH = 16, 1.2
"""Principal components of the generative model, and the kernel's width in units of pixel values from 0 to 16."""

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
        raise DiffcoreError("the demo needs scikit-learn; install it with: pip install 'diffcore-gpu[demo]'") from None
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


class DigitGenerator:
    """A class-conditional generative model: a kernel density estimate in the principal components of each class.

    It stands in for a diffusion model: fitted on other digits than those that the demo trains and evaluates on, as a
    pretrained model is.

    Args:
        images: float64 [N, 8, 8], 0 to 16.
        labels: int64 [N].
    """

    def __init__(self, images: Array, labels: Array) -> None:
        from sklearn.decomposition import PCA
        from sklearn.neighbors import KernelDensity

        self._models = {}
        for label in np.unique(labels):
            flat = images[labels == label].reshape(-1, 64)
            components = PCA(_COMPONENTS, random_state=0).fit(flat)
            density = KernelDensity(bandwidth=_BANDWIDTH).fit(components.transform(flat))
            self._models[int(label)] = components, density

    def draw(self, label: int, seed: int) -> Array:
        """A digit of that class, uint8 [32, 32]."""
        components, density = self._models[label]
        return enlarge(components.inverse_transform(density.sample(1, random_state=seed)).reshape(8, 8))


def write_real(folder: Path, images: Array, labels: Array) -> list[Path]:
    """An ImageFolder of grey PNG files; returns their paths in the order of the images."""
    paths = []
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / str(label) / f"digit-{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(enlarge(image)).save(path)
        paths.append(path)
    return paths


def write_generated(
    folder: Path, generator: DigitGenerator, real: list[Path], labels: Array, per_sample: int, seed: int
) -> int:
    """Counterparts as another tool would leave them: ``<stem of the real file>_generated_<k>.png``.

    Returns:
        How many files were written.
    """
    written = 0
    for path, label in zip(real, labels, strict=True):
        target = folder / str(label)
        target.mkdir(parents=True, exist_ok=True)
        for k in range(per_sample):
            image = generator.draw(int(label), seed + written)
            Image.fromarray(image).save(target / f"{path.stem}_generated_{k}.png")
            written += 1
    return written
