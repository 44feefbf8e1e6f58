"""Synthetic pictures have the spectrum that they are said to have, and repeat."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffcore_gpu.benchmarks.loader import pictures


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("shape", [(128, 128), (96, 160)])
def test_the_amplitude_falls_as_a_power_of_the_frequency(exponent: float, shape: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    found = [pictures.noise(*shape, exponent, generator) for _ in range(8)]
    assert all(values.shape == shape for values in found)
    assert np.allclose([values.std() for values in found], 1)
    assert np.allclose([values.mean() for values in found], 0, atol=1e-9)
    amplitude = np.mean([np.abs(np.fft.fft2(values)) for values in found], axis=0)
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None])
    used = (frequency > 0.03) & (frequency < 0.45)
    slope, _ = np.polyfit(np.log(frequency[used]), np.log(amplitude[used]), 1)
    assert slope == pytest.approx(-exponent, abs=0.05)


def test_the_same_number_gives_the_same_picture_and_others_differ() -> None:
    for make in (lambda seed: pictures.photograph(seed, 30, 40), lambda seed: pictures.generated_picture(seed, 30, 40)):
        one, same, other = make(1), make(1), make(2)
        assert (one.mode, one.size) == ("RGB", (40, 30))
        assert one.tobytes() == same.tobytes() != other.tobytes()


def test_generated_pictures_are_partly_out_of_focus() -> None:
    """So a PNG file of one takes less than of a picture that is sharp everywhere, as with generated photographs."""
    detail = []
    for picture in (pictures.photograph(3, 256, 256), pictures.generated_picture(3, 256, 256)):
        light = np.asarray(picture.convert("L"), dtype=np.float64)
        edges = np.abs(np.diff(light, axis=1))
        blocks = edges[:, :240].reshape(8, 32, 8, 30).mean((1, 3))
        detail.append(blocks.max() / blocks.min())
    assert detail[1] > 2 * detail[0]


def test_folders_hold_files_of_the_named_kind_in_equal_classes(tmp_path: Path) -> None:
    pictures.write_photographs(tmp_path / "real", 10)
    pictures.write_generated(tmp_path / "png", 10, 48)
    real = sorted((tmp_path / "real").rglob("*.jpg"))
    png = sorted((tmp_path / "png").rglob("*.png"))
    assert len(real) == len(png) == 10
    assert [path.parent.name for path in real] == [path.parent.name for path in png]
    assert len({path.parent for path in real}) == pictures.CLASSES
    assert {size_of(path) for path in real} == {(pictures.WIDTH, pictures.HEIGHT)}
    assert {size_of(path) for path in png} == {(48, 48)}


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size
