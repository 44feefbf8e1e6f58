"""Permutations, targets, and packages that are missing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diffcore_gpu.baselines.pairs import (
    check_pairs,
    draw_permutation,
    is_channels_last,
    library,
    mixed_targets,
    take,
)
from tests.baselines.small_models import normalized_batch


def test_targets_are_weighted_one_hots_and_equal_classes_add_up() -> None:
    labels, permutation = torch.tensor([0, 2, 2]), torch.tensor([1, 2, 0])
    own, partner = torch.tensor([0.5, 0.25, 1.0]), torch.tensor([0.125, 0.5, 0.0])
    expected = torch.tensor([[0.5, 0.0, 0.125], [0.0, 0.0, 0.75], [0.0, 0.0, 1.0]])
    assert torch.equal(mixed_targets(labels, permutation, own, partner, 3), expected)
    assert torch.equal(mixed_targets(labels, permutation, 0.75, 0.25, 3)[0], torch.tensor([0.75, 0.0, 0.25]))


def test_permutations_are_permutations_and_differ() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_permutation(rng, 16) for _ in range(20)]
    assert all(torch.equal(p.sort().values, torch.arange(16)) for p in drawn)
    assert all(p.dtype == torch.int64 for p in drawn)
    assert len({tuple(p.tolist()) for p in drawn}) == 20


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


def test_a_missing_package_gets_the_pip_command() -> None:
    with pytest.raises(ImportError, match=r"Mixup needs nowhere_to_be_found.*pip install 'diffcore-gpu\[bench\]'"):
        library("nowhere_to_be_found.part", "Mixup")


def test_labels_elsewhere_than_the_images_are_refused() -> None:
    batch = normalized_batch()
    batch = type(batch)(batch.images, batch.labels.to("meta"), batch.index)
    with pytest.raises(ValueError, match="on one device"):
        check_pairs(batch, 5, "Mixup")
