"""Boxes of CutMix's kind, against the published rule and torchvision's boxes; images in blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffcore_gpu.baselines.regions import Box, check_divisible, cut, cut_box, draw_box
from tests.baselines.small_models import normalized_batch


@given(
    st.integers(1, 300), st.integers(1, 300), st.floats(0, 1), st.floats(0, 1, exclude_max=True), st.floats(0, 0.999)
)
def test_a_box_is_the_published_one(height: int, width: int, lam: float, at_row: float, at_column: float) -> None:
    row, column = int(at_row * height), int(at_column * width)
    box = cut_box(height, width, lam, (row, column))
    cut_height, cut_width = int(height * np.sqrt(1 - lam)), int(width * np.sqrt(1 - lam))
    expected = (
        np.clip(row - cut_height // 2, 0, height),
        np.clip(column - cut_width // 2, 0, width),
        np.clip(row + cut_height // 2, 0, height),
        np.clip(column + cut_width // 2, 0, width),
    )
    assert box == expected
    assert 0 <= box.area <= height * width
    assert box.area == box.height * box.width


def test_an_unclipped_box_is_centred_and_has_the_area() -> None:
    box = cut_box(200, 100, 0.75, (100, 50))
    assert box == Box(50, 25, 150, 75)
    assert box.area == 0.25 * 200 * 100


def test_drawn_boxes_have_torchvisions_distribution() -> None:
    v2 = pytest.importorskip("torchvision.transforms.v2", reason="torchvision is not installed")
    stats = pytest.importorskip("scipy.stats")
    rng, image = np.random.default_rng(0), torch.empty(1, 3, 60, 90)
    torch.manual_seed(0)
    cutmix = v2.CutMix(num_classes=2)
    theirs = np.array([cutmix.make_params([image])["box"] for _ in range(4000)])
    ours = np.array([draw_box(rng, 60, 90, float(rng.beta(1, 1))) for _ in range(4000)])[:, [1, 0, 3, 2]]
    for side in range(4):
        assert stats.ks_2samp(ours[:, side], theirs[:, side]).pvalue > 1e-6


def test_cut_shows_the_blocks() -> None:
    images = torch.arange(2 * 3 * 8 * 12.0).reshape(2, 3, 8, 12)
    cells = cut(images, 4)
    assert cells.shape == (2, 3, 4, 2, 4, 3)
    torch.testing.assert_close(cells[1, 2, 3, :, 1], images[1, 2, 6:8, 3:6])


def test_divisible() -> None:
    images = normalized_batch(1, 32, 40).images
    check_divisible(images, 8, "Method")
    with pytest.raises(ValueError, match=r"32 × 40 .* multiple of 16"):
        check_divisible(images, 16, "Method")
