"""CutMix: the weights of the labels are the shares of the pixels, clipped boxes included."""

from __future__ import annotations

import pytest
import torch

from diffcore_gpu.baselines import Batch
from diffcore_gpu.baselines.cutmix import CutMix
from tests.baselines.small_models import CLASSES, MEAN, STD, small_model


def test_label_weights_are_the_pixels_that_each_image_has() -> None:
    method, model = CutMix(CLASSES, mean=MEAN, std=STD), small_model()
    images = torch.arange(4.0).reshape(4, 1, 1, 1).expand(4, 3, 24, 31).contiguous()
    batch = Batch(images, torch.arange(4), torch.arange(4))
    seen = set()
    for _ in range(30):
        mixed = method(batch, model)
        shares = torch.stack([(mixed.images == i).float().mean((1, 2, 3)) for i in range(4)], dim=1)
        torch.testing.assert_close(mixed.targets[:, :4], shares)
        pasted = (mixed.images[1, 0] != 1).nonzero()
        if len(pasted):  # what is pasted is one box
            (top, left), (bottom, right) = pasted.amin(0).tolist(), pasted.amax(0).tolist()
            assert (bottom - top + 1) * (right - left + 1) == len(pasted)
        seen.add(round(float(mixed.targets[0, 0]), 4))
    assert len(seen) > 20


def test_bad_alpha() -> None:
    with pytest.raises(ValueError, match="alpha of CutMix must be a number above 0"):
        CutMix(CLASSES, mean=MEAN, std=STD, alpha=-1.0)
