"""SmoothMix: one Gaussian mask, whose mean is the partner's weight."""

from __future__ import annotations

import pytest
import torch

from diffcore_gpu.baselines import Batch
from diffcore_gpu.baselines.smoothmix import SmoothMix
from tests.baselines.small_models import CLASSES, MEAN, STD, small_model

HEIGHT, WIDTH = 36, 52


def masks(method: SmoothMix, count: int) -> list[tuple[torch.Tensor, float]]:
    """(mask, weight of the partner), of batches of two in which the images were swapped."""
    batch = Batch(
        torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1).expand(2, 3, HEIGHT, WIDTH), torch.arange(2), torch.arange(2)
    )
    mixed = [method(batch, small_model()) for _ in range(count)]
    return [(m.images[0, 0], float(m.targets[0, 1])) for m in mixed if m.targets[0, 0] < 1]


def test_the_mask_is_a_gaussian_of_the_papers_spread_and_its_mean_the_weight() -> None:
    seen = masks(SmoothMix(CLASSES, mean=MEAN, std=STD), 40)
    assert len(seen) > 15
    rows = torch.arange(HEIGHT, dtype=torch.float64)
    for mask, weight in seen:
        assert weight == pytest.approx(float(mask.double().mean()), rel=1e-5)
        assert 0 < float(mask.min()) < float(mask.max()) <= 1
        # log of a Gaussian is a parabola: its second difference is −1/σ².
        for log, side in ((mask.double().log()[:, 7], HEIGHT), (mask.double().log()[7], WIDTH)):
            curvature = log.diff().diff()
            torch.testing.assert_close(curvature, curvature.mean().expand_as(curvature), atol=1e-4, rtol=0.05)
            assert 0.24 < float((-curvature.mean()) ** -0.5) / side < 0.51
        assert torch.linalg.matrix_rank(mask.double(), rtol=1e-4) == 1
    centers = [float((mask.sum(1) * rows).sum() / mask.sum()) for mask, _ in seen]
    assert max(centers) - min(centers) > HEIGHT / 4


def test_bad_spread() -> None:
    with pytest.raises(ValueError, match="spread as an interval above 0"):
        SmoothMix(CLASSES, mean=MEAN, std=STD, spread=(0.0, 0.5))
