"""Normalized images and pixels, and memory formats."""

from __future__ import annotations

import math

import pytest
import torch

from diffcore_gpu.baselines.images import Normalization, as_like, is_channels_last, take
from tests.baselines.small_models import MEAN, STD, normalized_batch


def test_pixels_and_back() -> None:
    images = normalized_batch(2, 8, 8).images.to(memory_format=torch.channels_last)
    normalization = Normalization(MEAN, STD)
    pixels = normalization.pixels(images)
    for channel in range(3):
        torch.testing.assert_close(pixels[:, channel], images[:, channel] * STD[channel] + MEAN[channel])
    back = normalization.images(pixels, like=images)
    torch.testing.assert_close(back, images)
    assert back.is_contiguous(memory_format=torch.channels_last)
    assert normalization.pixels(images.half()).dtype == torch.float32
    assert as_like(pixels, images.half()).dtype == torch.float16


@pytest.mark.parametrize(("mean", "std"), [((0.5,), (0.5, 0.5)), ((), ()), ((0.5,), (0.0,)), ((math.nan,), (1.0,))])
def test_wrong_numbers_are_refused(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="mean"):
        Normalization(mean, std)


@pytest.mark.parametrize("channels_last", [False, True])
def test_take_keeps_the_memory_format(channels_last: bool) -> None:
    images = normalized_batch().images
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    assert is_channels_last(images) == channels_last
    permutation = torch.tensor([3, 1, 0, 2, 5, 4])
    taken = take(images, permutation)
    assert torch.equal(taken, images[permutation])
    assert taken.stride() == images.stride()
