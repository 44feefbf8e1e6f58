"""Checks of settings and images."""

from __future__ import annotations

import math

import pytest
import torch

from diffcore_gpu.baselines._base import Batch
from diffcore_gpu.baselines.arguments import check_count, check_divisible, check_images, check_number
from tests.baselines.small_models import normalized_batch


def test_numbers() -> None:
    assert check_number("x", 0, 0) == 0
    assert check_number("x", 0.5, 0, 1, above=True) == 0.5
    for value in (-1, 2, math.nan, math.inf, True, "1", None):
        with pytest.raises(ValueError, match=r"x must be a number of at least 0 up to 1"):
            check_number("x", value, 0, 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="above 0"):
        check_number("x", 0, 0, above=True)


def test_counts() -> None:
    assert check_count("x", 3, 1) == 3
    for value in (0, 5, 1.0, True, None):
        with pytest.raises(ValueError, match=r"x must be an integer in \[1, 4\]"):
            check_count("x", value, 1, 4)  # type: ignore[arg-type]


def test_images() -> None:
    batch = normalized_batch(1)
    check_images(batch, 3, "Method")
    for wrong, channels, message in (
        (Batch(batch.images[0], batch.labels, batch.index), 3, "float dtype"),
        (Batch(batch.images.to(torch.uint8), batch.labels, batch.index), 3, "float dtype"),
        (Batch(batch.images, batch.labels.int(), batch.index), 3, "int64"),
        (Batch(batch.images, batch.labels[:0], batch.index), 3, "int64"),
        (batch, 1, "channels"),
    ):
        with pytest.raises(ValueError, match=f"Method.*{message}"):
            check_images(wrong, channels, "Method")


def test_divisible() -> None:
    images = normalized_batch(1, 32, 40).images
    check_divisible(images, 8, "Method")
    with pytest.raises(ValueError, match=r"32 × 40 .* multiple of 16"):
        check_divisible(images, 16, "Method")
