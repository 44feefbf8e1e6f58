"""How the loader that reads PNG files mixes two pictures, against the equations."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from diffcore_gpu.benchmarks.loader import arms as loader_arms
from diffcore_gpu.benchmarks.loader.arms import mix_pictures


class Draws:
    """Stands for the module `random`, with numbers that a test chooses."""

    def __init__(self, values: list[float]) -> None:
        self._values = iter(values)

    def random(self) -> float:
        return next(self._values)


uniform = st.floats(0, 1, exclude_max=True)


@given(lam=uniform)
@settings(max_examples=30)
def test_pixels_are_mixed_by_lambda(lam: float) -> None:
    generator = np.random.default_rng(0)
    real, counterpart = generator.integers(0, 256, (2, 7, 9, 3), dtype=np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader_arms, "random", Draws([0.2, lam]))
        mixed = mix_pictures(Image.fromarray(real), Image.fromarray(counterpart))
    expected = lam * real.astype(np.float64) + (1 - lam) * counterpart
    assert np.abs(np.asarray(mixed) - expected).max() <= 1


@given(area=uniform, x=uniform, y=uniform, side=uniform)
@settings(max_examples=60)
def test_a_patch_shows_the_one_on_the_other(area: float, x: float, y: float, side: float) -> None:
    height, width = 8, 12
    real = Image.new("RGB", (width, height), (255, 0, 0))
    counterpart = Image.new("RGB", (width, height), (0, 0, 255))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader_arms, "random", Draws([0.5, area, x, y, side]))
        mixed = np.asarray(mix_pictures(real, counterpart))
    inside = mixed[..., 0] == (255 if side < 0.5 else 0)
    rows, columns = np.arange(height), np.arange(width)
    # Independently: a pixel is in the box where its middle is, but for rounding of each side.
    half = np.sqrt(area) / 2

    def surely(at: np.ndarray, centre: float, full: int, margin: float) -> np.ndarray:
        near: np.ndarray = np.abs(at + 0.5 - centre * full) <= half * full + margin
        return near

    certain = surely(rows, y, height, -1.01)[:, None] & surely(columns, x, width, -1.01)[None]
    possible = surely(rows, y, height, 1.01)[:, None] & surely(columns, x, width, 1.01)[None]
    assert inside[certain].all()
    assert not inside[~possible].any()
    assert inside.sum() == inside.any(1).sum() * inside.any(0).sum()  # a rectangle


def test_both_kinds_of_mix_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    random.seed(0)
    kinds = set()
    for _ in range(40):
        red, blue = Image.new("RGB", (9, 9), (255, 0, 0)), Image.new("RGB", (9, 9), (0, 0, 255))
        colours = {tuple(pixel) for pixel in np.asarray(mix_pictures(red, blue)).reshape(-1, 3).tolist()}
        kinds.add("patch" if colours <= {(255, 0, 0), (0, 0, 255)} else "pixel")
    assert kinds == {"patch", "pixel"}
