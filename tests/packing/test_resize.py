"""Resizing agrees with torchvision, exactly where both work on a PIL image."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from diffcore_gpu.packing.options import Fit
from diffcore_gpu.packing.resize import resize


def photo(width: int, height: int) -> Image.Image:
    """Smooth shapes and noise, as in a photo."""
    random = np.random.default_rng(width * 10_000 + height)
    y, x = np.mgrid[0:height, 0:width]
    shapes = 127 + 90 * np.sin(x / 17)[..., None] * np.cos(y[..., None] / np.array([11, 19, 29]))
    noise = random.normal(0, 12, (height, width, 3))
    return Image.fromarray(np.clip(shapes + noise, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("source", [(300, 200), (200, 300), (201, 333), (64, 64), (20, 31), (500, 65)])
@pytest.mark.parametrize("side", [64, 65])
def test_crop_is_resize_and_center_crop(source: tuple[int, int], side: int) -> None:
    v2 = pytest.importorskip("torchvision.transforms.v2", exc_type=ImportError)
    image = photo(*source)
    result = np.asarray(resize(image, side, side, Fit.CROP)).astype(int)
    expected = v2.CenterCrop(side)(v2.Resize(side, interpolation=v2.InterpolationMode.BICUBIC)(image))
    # One unit: Pillow's box is a float32, so a coefficient may round the other way.
    assert np.abs(result - np.asarray(expected).astype(int)).max() <= 1
    assert result.shape == (side, side, 3)


@pytest.mark.parametrize("fit", list(Fit))
def test_close_to_the_antialiased_tensor_path(fit: Fit) -> None:
    v2 = pytest.importorskip("torchvision.transforms.v2", exc_type=ImportError)
    image = photo(301, 200)
    size = [48, 48] if fit is Fit.STRETCH else 48
    tensor = v2.functional.pil_to_tensor(image)
    expected = v2.CenterCrop(48)(v2.Resize(size, interpolation=v2.InterpolationMode.BICUBIC, antialias=True)(tensor))
    result = np.asarray(resize(image, 48, 48, fit)).transpose(2, 0, 1).astype(int)
    assert np.abs(result - expected.numpy().astype(int)).max() <= 2


@pytest.mark.parametrize("size", [(40, 60), (60, 40), (7, 90)])
def test_crop_keeps_the_middle_and_the_aspect_ratio(size: tuple[int, int]) -> None:
    image = Image.new("RGB", (200, 200), (0, 0, 0))
    image.paste((255, 255, 255), (90, 90, 110, 110))
    height, width = size
    lit = np.asarray(resize(image, height, width, Fit.CROP))[..., 0] > 127
    rows, columns = np.flatnonzero(lit.any(1)), np.flatnonzero(lit.any(0))
    scale = max(size) / 200
    assert lit.shape == size
    assert abs(rows.mean() - (height - 1) / 2) <= 0.5
    assert abs(columns.mean() - (width - 1) / 2) <= 0.5
    assert abs(len(rows) - min(20 * scale, height)) <= 1
    assert abs(len(columns) - min(20 * scale, width)) <= 1


def test_an_extreme_strip_is_not_blown_up() -> None:
    strip = Image.new("RGB", (8, 60_000), (10, 20, 30))
    result = resize(strip, 256, 256, Fit.CROP)
    assert result.size == (256, 256)
    assert result.getextrema() == ((10, 10), (20, 20), (30, 30))


def test_right_size_is_left_alone() -> None:
    image = photo(32, 16)
    assert resize(image, 16, 32, Fit.CROP) is image
