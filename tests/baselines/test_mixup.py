"""Mixup's equation, and λ's distribution."""

from __future__ import annotations

import pytest
import scipy.stats
import torch

from diffcore_gpu.baselines import Batch
from diffcore_gpu.baselines.mixup import Mixup
from tests.baselines.small_models import CLASSES, MEAN, STD, normalized_batch, small_model


def test_images_and_targets_share_one_lambda() -> None:
    method, batch = Mixup(CLASSES, mean=MEAN, std=STD, seed=2), normalized_batch()
    images, labels = batch.images, torch.tensor([0, 1, 2, 3, 4, 0])
    mixed = method(Batch(images, labels, batch.index), small_model())
    lam = mixed.targets[2, 2]
    assert 0 < lam < 1
    torch.testing.assert_close(mixed.images, lam * images + (1 - lam) * images.roll(1, 0))
    one_hot = torch.eye(CLASSES)[labels]
    torch.testing.assert_close(mixed.targets, lam * one_hot + (1 - lam) * one_hot.roll(1, 0))


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_lambda_follows_the_beta_distribution(alpha: float) -> None:
    method = Mixup(2, mean=MEAN, std=STD, alpha=alpha)
    batch = Batch(torch.zeros(2, 3, 1, 1), torch.tensor([0, 1]), torch.arange(2))
    drawn = [float(method(batch, small_model()).targets[0, 0]) for _ in range(500)]
    assert scipy.stats.kstest(drawn, "beta", (alpha, alpha)).pvalue > 1e-6


def test_bad_alpha() -> None:
    with pytest.raises(ValueError, match="alpha of Mixup must be a number above 0"):
        Mixup(CLASSES, mean=MEAN, std=STD, alpha=0.0)
