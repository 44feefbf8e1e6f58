"""ResizeMix: the whole partner, shrunk, lies at a place of its own in each image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from diffcore_gpu.baselines import Batch
from diffcore_gpu.baselines.resizemix import ResizeMix, paste_by_copies, paste_by_index
from tests.baselines.small_models import CLASSES, MEAN, STD, small_model


def coordinates(size: int, height: int, width: int) -> Batch:
    """Pixels that tell image, row and column."""
    number = torch.arange(size * height * width, dtype=torch.float32).reshape(size, 1, height, width)
    return Batch(number.expand(-1, 3, -1, -1).contiguous(), torch.arange(size), torch.arange(size))


def places(rng: np.random.Generator, size: int, full: int, part: int) -> np.ndarray:
    """Starts by the published rule: around a uniform pixel, clipped at one border and then at the other."""
    start = np.clip(rng.integers(full, size=size) - part // 2, 0, full)
    end = np.clip(start + part, 0, full)
    return np.clip(end - part, 0, full)


@pytest.mark.parametrize("seed", range(8))
def test_the_mixture_is_that_of_a_loop_over_the_images(seed: int) -> None:
    size, height, width = 5, 30, 44
    batch = coordinates(size, height, width)
    mixed = ResizeMix(CLASSES, mean=MEAN, std=STD, seed=seed)(batch, small_model())
    rng = np.random.default_rng(seed)
    rate = rng.uniform(0.1, 0.8)
    small = interpolate(batch.images, scale_factor=rate)
    rows, columns = small.shape[2:]
    assert (rows, columns) == (int(height * rate), int(width * rate))
    order = rng.permutation(size)
    tops, lefts = places(rng, size, height, rows), places(rng, size, width, columns)
    assert len(set(zip(tops, lefts, strict=True))) > 1  # a place for each image, not for the batch
    expected, targets = batch.images.clone(), torch.zeros(size, CLASSES)
    for i, (j, top, left) in enumerate(zip(order, tops, lefts, strict=True)):
        expected[i, :, top : top + rows, left : left + columns] = small[j]
        targets[i, j] += rows * columns / (height * width)
        targets[i, i] += 1 - rows * columns / (height * width)
    assert torch.equal(mixed.images, expected)
    torch.testing.assert_close(mixed.targets, targets)


def test_every_place_is_within_the_image_and_every_rate_drawn() -> None:
    batch, method = coordinates(4, 20, 20), ResizeMix(CLASSES, mean=MEAN, std=STD)
    weights = []
    for _ in range(100):
        mixed = method(batch, small_model())
        foreign = (mixed.images[:, 0] // 400 != torch.arange(4).reshape(4, 1, 1)).flatten(1).float().mean(1)
        own = mixed.targets[torch.arange(4), torch.arange(4)]
        torch.testing.assert_close(1 - own, foreign)  # nothing was cut off
        weights += [float(share) for share in foreign if share > 0]
    assert min(weights) < 0.05
    assert 0.5 < max(weights) <= 0.64


def test_the_patch_is_torchs_nearest_neighbour_resize() -> None:
    batch = coordinates(2, 40, 40)
    method = ResizeMix(CLASSES, mean=MEAN, std=STD, scale=(0.5, 0.5), seed=1)
    for _ in range(20):
        mixed = method(batch, small_model())
        if float(mixed.targets[0, 1]) == 0.25:
            changed = (mixed.images[0, 0] >= 1600).nonzero()
            top, left = changed.amin(0).tolist()
            assert torch.equal(mixed.images[0, :, top : top + 20, left : left + 20], batch.images[1, :, ::2, ::2])
            outside = mixed.images[0].clone()
            outside[:, top : top + 20, left : left + 20] = batch.images[0, :, top : top + 20, left : left + 20]
            assert torch.equal(outside, batch.images[0])
            return
    raise AssertionError("20 permutations of two were all the identity")


def test_bad_settings_and_images() -> None:
    for scale in ((0.0, 0.5), (0.6, 0.5), (0.5, 1.1)):
        with pytest.raises(ValueError, match="scale as an interval"):
            ResizeMix(CLASSES, mean=MEAN, std=STD, scale=scale)
    with pytest.raises(ValueError, match=r"to nothing at a scale of 0.1; give larger images or a larger scale"):
        ResizeMix(CLASSES, mean=MEAN, std=STD)(coordinates(2, 9, 40), small_model())


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_indexed_write_of_a_gpu_is_the_copies_of_the_cpu(channels_last: bool) -> None:
    images = coordinates(5, 30, 44).images
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    small = interpolate(images, scale_factor=0.4)
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(5, generator=generator)
    top, left = (torch.randint(free, (5,), generator=generator) for free in (19, 28))
    ours = paste_by_index(images, small, order, top, left)
    assert torch.equal(ours, paste_by_copies(images, small, order, top, left))
    assert ours.stride() == images.stride()
