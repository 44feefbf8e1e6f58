"""SnapMix: class-activation maps, their mass in the boxes, and the resized paste."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate

from diffcore_gpu.baselines import Batch
from diffcore_gpu.baselines.regions import Box, draw_box
from diffcore_gpu.baselines.snapmix import SnapMix, box_mass, class_activation_maps, paste_boxes
from tests.baselines.small_models import CLASSES, MEAN, STD, normalized_batch, small_model


def published_maps(model: nn.Module, batch: Batch) -> torch.Tensor:
    """All K maps by a 1×1 convolution with bias, then the true class's, as the authors' code goes about it."""
    features = model.body(model.stem(batch.images)).relu()
    logits = nn.functional.conv2d(features, model.fc.weight[:, :, None, None], model.fc.bias)
    maps = torch.stack([logits[i, int(label)] for i, label in enumerate(batch.labels)])
    maps = interpolate(maps[:, None], batch.images.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return torch.stack([(m - m.min()) / (m - m.min()).sum() for m in maps]).detach()


def test_maps_are_the_published_ones() -> None:
    model, batch = small_model().eval(), normalized_batch()
    features = model.body(model.stem(batch.images))
    ours = class_activation_maps(features, model.fc, batch.labels, (32, 40))
    torch.testing.assert_close(ours, published_maps(model, batch), atol=1e-7, rtol=1e-3)
    torch.testing.assert_close(ours.sum((1, 2)), torch.ones(6))
    convolution = nn.Conv2d(12, CLASSES, 1)
    convolution.weight.data = model.fc.weight.data[:, :, None, None]
    assert torch.equal(class_activation_maps(features, convolution, batch.labels, (32, 40)), ours)
    flat = class_activation_maps(torch.zeros_like(features), model.fc, batch.labels, (32, 40))
    torch.testing.assert_close(flat, torch.full((6, 32, 40), 1 / 1280))


def published_mixture(batch: Batch, maps: torch.Tensor, order: np.ndarray, boxes: list[tuple[Box, Box]]) -> tuple[
    torch.Tensor, torch.Tensor
]:  # fmt: skip
    """Image by image, with a resize for each."""
    images, targets = batch.images.clone(), torch.zeros(len(order), CLASSES)
    for i, (j, (target, source)) in enumerate(zip(order, boxes, strict=True)):
        cut = batch.images[j : j + 1, :, source.top : source.bottom, source.left : source.right]
        images[i, :, target.top : target.bottom, target.left : target.right] = interpolate(
            cut, (target.height, target.width), mode="bilinear", align_corners=True
        )[0]
        lost = maps[i, target.top : target.bottom, target.left : target.right].sum()
        gained = maps[j, source.top : source.bottom, source.left : source.right].sum()
        targets[i, batch.labels[i]] += 1 - lost
        targets[i, batch.labels[j]] += gained
    return images, targets


@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_the_mixture_is_the_published_one(per_image: bool, seed: int) -> None:
    model, batch = small_model().eval(), normalized_batch(seed=seed)
    mixed = SnapMix(CLASSES, mean=MEAN, std=STD, seed=seed, per_image=per_image)(batch, model)
    rng = np.random.default_rng(seed)
    order = rng.permutation(6)
    boxes = [
        (draw_box(rng, 32, 40, float(rng.beta(5, 5))), draw_box(rng, 32, 40, float(rng.beta(5, 5))))
        for _ in range(6 if per_image else 1)
    ]
    assert all(box.area for both in boxes for box in both)
    if not per_image:
        boxes *= 6
    images, targets = published_mixture(batch, published_maps(model, batch), order, boxes)
    torch.testing.assert_close(mixed.images, images, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(mixed.targets, targets, atol=1e-5, rtol=1e-3)


def test_label_mass_is_what_the_boxes_hold_and_may_differ_from_one() -> None:
    method, model = SnapMix(CLASSES, mean=MEAN, std=STD, per_image=True), small_model()
    sums = torch.cat([method(normalized_batch(8, seed=seed), model).targets.sum(1) for seed in range(10)])
    assert bool((sums >= 0).all() and (sums <= 2).all())
    assert float(sums.min()) < 0.9 < 1.1 < float(sums.max())


@pytest.mark.parametrize(("height", "width"), [(31, 44), (8, 9), (1, 5)])
def test_batched_paste_is_one_resize_for_each_image(height: int, width: int) -> None:
    rng = np.random.default_rng(height)
    images = torch.randn(12, 3, height, width, generator=torch.Generator().manual_seed(0))
    order = torch.from_numpy(rng.permutation(12))

    def boxes() -> torch.Tensor:
        rows, columns = (np.sort(np.stack([rng.permutation(n + 1)[:2] for _ in range(12)])) for n in (height, width))
        return torch.from_numpy(np.stack([rows[:, 0], columns[:, 0], rows[:, 1], columns[:, 1]], axis=1))

    target, source = boxes(), boxes()
    ours, expected = paste_boxes(images, order, target, source), images.clone()
    for i in range(12):
        (top, left, bottom, right), (from_top, from_left, to, from_right) = target[i].tolist(), source[i].tolist()
        cut = images[order[i], :, from_top:to, from_left:from_right][None]
        size = (bottom - top, right - left)
        expected[i, :, top:bottom, left:right] = interpolate(cut, size, mode="bilinear", align_corners=True)[0]
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)
    mass = box_mass(images.abs().mean(1), target)
    for i, (top, left, bottom, right) in enumerate(target.tolist()):
        torch.testing.assert_close(mass[i], images[i, :, top:bottom, left:right].abs().mean(0).sum())


@pytest.mark.parametrize("per_image", [False, True])
def test_empty_boxes_leave_the_images(per_image: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    method, batch = SnapMix(CLASSES, mean=MEAN, std=STD, per_image=per_image), normalized_batch()
    drawn = iter([Box(3, 3, 3, 9), Box(0, 0, 9, 9)] * 6)
    monkeypatch.setattr(method, "_draw_box", lambda height, width: next(drawn))
    mixed = method(batch, small_model())
    assert torch.equal(mixed.images, batch.images)
    torch.testing.assert_close(mixed.targets, torch.eye(CLASSES)[batch.labels])


def test_a_model_without_maps_and_bad_settings_get_a_sentence() -> None:
    batch = normalized_batch()
    with pytest.raises(ValueError, match="SnapMix needs a model that pools"):
        SnapMix(CLASSES, mean=MEAN, std=STD)(
            batch, nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 30 * 38, CLASSES))
        )
    with pytest.raises(ValueError, match="beta of SnapMix"):
        SnapMix(CLASSES, mean=MEAN, std=STD, beta=0.0)
