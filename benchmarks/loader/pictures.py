"""Pictures to measure a loader with where there are no photographs at hand: noise with a photograph's spectrum.

The amplitude of photographs falls with the spatial frequency as about 1/f: a little faster in small JPEG files (f to
the −1.25 in birds of CUB), and faster still in generated ones (−1.4 to −1.6), of which large parts are out of focus.
Pictures made here follow that, since the size of a file and the cost of decoding it depend on it. The JPEG files have
about 90 kB and the PNG files of 512×512 about 300 kB; the generated birds that the paper's authors show have 90 to
280 kB and are decoded in a tenth less time.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from diffcore_gpu.threads import default_workers, map_in_order

CLASSES = 8
"""Classes of the folders that are made here."""
HEIGHT, WIDTH = 375, 500
"""Of the pictures that stand for real images, in pixels: the common size in CUB and ImageNet."""
JPEG_QUALITY = 90

_SPECTRUM, _SHARP, _BLURRED = 1.25, 1.5, 3.0  # exponents: of real images, and of parts in and out of focus
_MEAN, _CONTRAST, _COLOURFULNESS = 118.0, 50.0, 0.3


def noise(height: int, width: int, exponent: float, generator: np.random.Generator) -> npt.NDArray[np.float64]:
    """Gaussian noise whose expected amplitude falls with the spatial frequency f as f^−exponent.

    Args:
        height: in pixels.
        width: in pixels.
        exponent: 0: white; 1: like photographs.
        generator: of the random numbers.

    Returns:
        float64 [height, width], mean 0 and standard deviation 1.
    """
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1.0
    amplitude = frequency**-exponent
    amplitude[0, 0] = 0.0  # no constant part
    shape = frequency.shape
    waves = (generator.standard_normal(shape) + 1j * generator.standard_normal(shape)) * amplitude
    values: npt.NDArray[np.float64] = np.fft.irfft2(waves, s=(height, width))
    values /= values.std()
    return values


def photograph(seed: int, height: int = HEIGHT, width: int = WIDTH) -> Image.Image:
    """An RGB picture with the spectrum of a photograph."""
    generator = np.random.default_rng(seed)
    return _in_colour([noise(height, width, _SPECTRUM, generator) for _ in range(3)])


def generated_picture(seed: int, height: int, width: int) -> Image.Image:
    """An RGB picture of which about half is sharp and half out of focus."""
    generator = np.random.default_rng(seed)
    focus = np.clip(0.5 + 2 * noise(height, width, 2.5, generator), 0, 1)

    def channel() -> npt.NDArray[np.float64]:
        blurred, sharp = (noise(height, width, exponent, generator) for exponent in (_BLURRED, _SHARP))
        return blurred + focus * (sharp - blurred)

    return _in_colour([channel() for _ in range(3)])


def _in_colour(channels: list[npt.NDArray[np.float64]]) -> Image.Image:
    """One channel of brightness and two of colour, which varies less."""
    light, warm, cool = channels[0], channels[1] * _COLOURFULNESS, channels[2] * _COLOURFULNESS
    rgb = np.stack([light + warm, light - (warm + cool) / 2, light + cool], axis=-1)
    return Image.fromarray(np.clip(_MEAN + _CONTRAST * rgb + 0.5, 0, 255).astype(np.uint8))


def write_photographs(folder: Path, count: int) -> None:
    """An ImageFolder of `count` JPEG files, spread over at most `CLASSES` classes."""

    def write(number: int) -> None:
        photograph(number).save(folder / class_name(number) / f"{number:06d}.jpg", quality=JPEG_QUALITY)

    _write_all(folder, count, write)


def write_generated(folder: Path, count: int, size: int) -> None:
    """An ImageFolder of `count` PNG files of size×size, of the classes of `write_photographs`."""

    def write(number: int) -> None:
        # Seeds of their own, so that no generated picture repeats the noise of a real one.
        generated_picture(1_000_000 + number, size, size).save(folder / class_name(number) / f"{number:06d}.png")

    _write_all(folder, count, write)


def class_name(number: int) -> str:
    """The class of a picture."""
    return f"class {number % CLASSES}"


def _write_all(folder: Path, count: int, write: Callable[[int], None]) -> None:
    for number in range(min(count, CLASSES)):
        (folder / class_name(number)).mkdir(parents=True)
    for _ in map_in_order(write, range(count), default_workers()):
        pass
