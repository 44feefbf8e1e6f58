"""Attentive CutMix: the strongest cells of the partner, at their own place."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from diffcore_gpu.baselines import Batch
from diffcore_gpu.baselines.attentive_cutmix import AttentiveCutMix, strongest_cells
from tests.baselines.small_models import CLASSES, MEAN, STD, normalized_batch, small_model


class GridMeans(nn.Module):
    """Its features are the brightness of a 7×7 grid; it fails in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(7)

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training
        result: Tensor = self.pool(x).mean((2, 3))
        return result


def test_the_six_brightest_cells_of_the_partner_are_pasted_where_they_were() -> None:
    size, generator = 4, torch.Generator().manual_seed(0)
    cells = torch.rand(size, 1, 7, 7, generator=generator).expand(-1, 3, -1, -1)
    images = nn.functional.interpolate(cells, (56, 56), mode="nearest")
    batch = Batch(images, torch.arange(size), torch.arange(size))
    extractor = GridMeans().train()
    mixed = AttentiveCutMix(CLASSES, mean=MEAN, std=STD, extractor=extractor)(batch, small_model())
    assert extractor.training
    for i in range(size):
        weights = mixed.targets[i].clone()
        weights[i] -= 43 / 49
        partner = int(weights.argmax())
        expected = cells[i, 0].flatten().clone()
        brightest = cells[partner, 0].flatten().argsort(descending=True)[:6]
        expected[brightest] = cells[partner, 0].flatten()[brightest]
        torch.testing.assert_close(mixed.images[i, 0, ::8, ::8].flatten(), expected)
        assert weights[partner] == pytest.approx(6 / 49, abs=1e-6)


def test_weights_are_the_share_of_the_pixels_where_cells_are_unequal() -> None:
    features = torch.rand(5, 4, 7, 7, generator=torch.Generator().manual_seed(1))
    mask = strongest_cells(features, 6, (30, 45))
    assert mask.shape == (5, 30, 45)
    strength = features.mean(1)
    for i in range(5):
        threshold = strength[i].flatten().topk(6).values[-1]
        rows, columns = torch.arange(30) * 7 // 30, torch.arange(45) * 7 // 45
        assert torch.equal(mask[i], (strength[i] >= threshold)[rows][:, columns])
    batch = normalized_batch(4)
    batch = Batch(batch.images, torch.arange(4), batch.index)
    mixed = AttentiveCutMix(CLASSES, mean=MEAN, std=STD, cells=7)(batch, small_model())
    changed = (mixed.images != batch.images).any(1).float().mean((1, 2))
    own = mixed.targets[torch.arange(4), torch.arange(4)]
    moved = own < 1
    assert bool(moved.any())
    torch.testing.assert_close(1 - own[moved], changed[moved])


def test_the_trained_model_is_asked_in_evaluation_mode() -> None:
    model, batch = small_model(), normalized_batch()
    ours = AttentiveCutMix(CLASSES, mean=MEAN, std=STD)(batch, model)
    theirs = AttentiveCutMix(CLASSES, mean=MEAN, std=STD, extractor=small_model().eval())(batch, nn.Identity())
    assert torch.equal(ours.images, theirs.images)
    assert model.training
    assert int(model.stem[1].num_batches_tracked) == 0


def test_bad_settings_and_grids_get_a_sentence() -> None:
    with pytest.raises(ValueError, match="cells of Attentive CutMix must be an integer of at least 1"):
        AttentiveCutMix(CLASSES, mean=MEAN, std=STD, cells=0)
    with pytest.raises(ValueError, match=r"pastes 80 cells, and the features have 8×10 .* or fewer cells"):
        AttentiveCutMix(CLASSES, mean=MEAN, std=STD, cells=80)(normalized_batch(), small_model())
