"""PixMix: its mixings, its rounds, and what stays."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diffcore_gpu.baselines import Batch, one_hot
from diffcore_gpu.baselines.images import Normalization
from diffcore_gpu.baselines.pixmix import PixMix, Round, add, multiply
from tests.baselines.small_models import CLASSES, MEAN, STD, normalized_batch, small_model

pytest.importorskip("torchvision.transforms.v2", reason="torchvision is not installed")


def pixmix(**settings: object) -> PixMix:
    return PixMix(CLASSES, mean=MEAN, std=STD, **{"fractals": 3, **settings})  # type: ignore[arg-type]


def test_mixings_are_the_papers() -> None:
    x, y = torch.tensor([0.0, 0.25, 1.0]), torch.tensor([0.5, 1.0, 0.0])
    a, b = torch.tensor(0.5), torch.tensor(-0.25)
    torch.testing.assert_close(add(x, y, a, b), torch.tensor([0.25, 0.25, 0.875]))
    found = multiply(x, y, a, b)
    torch.testing.assert_close(found[:2], torch.tensor([0.0, 0.5**0.5 * 2**-0.25 / 2]))
    assert found.isfinite().all()


def test_a_round_mixes_what_it_names_and_clips() -> None:
    method = pixmix()
    mixed = torch.rand(4, 3, 8, 8)
    before = mixed.clone()
    original = torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8)
    fractals = torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8)
    a, b = np.array([1.5, 0.75], dtype=np.float32), np.array([-0.5, 0.25], dtype=np.float32)
    step = Round(np.array([3, 1]), np.array([False, False]), np.array([True, False]), a, b)
    method._mix(mixed, original, fractals, step)
    assert torch.equal(mixed[[0, 2]], before[[0, 2]])
    first = multiply(before[3], fractals[3] / 255, torch.tensor(1.5), torch.tensor(-0.5)).clamp(0, 1)
    second = add(before[1], fractals[1] / 255, torch.tensor(0.75), torch.tensor(0.25)).clamp(0, 1)
    torch.testing.assert_close(mixed[[3, 1]], torch.stack([first, second]))


def test_rounds_are_drawn_as_published() -> None:
    drawn = pixmix(k=4, beta=4.0)._draw_rounds(4000)
    assert len(drawn) == 4
    counts = np.array([len(round_.images) for round_ in drawn]) / 4000
    np.testing.assert_allclose(counts, [0.8, 0.6, 0.4, 0.2], atol=0.04)
    first = drawn[0]
    assert (np.sign(first.b) == np.where(first.a < 1, 1, -1)).all()
    for share in (first.augmented.mean(), first.multiply.mean(), (first.a < 1).mean()):
        assert share == pytest.approx(0.5, abs=0.04)
    assert np.abs(first.b).mean() == pytest.approx(1 / 5, abs=0.02)
    assert np.abs(1 - first.a).mean() == pytest.approx(1 / 5, abs=0.02)
    assert pixmix(k=0)._draw_rounds(5) == []


def test_every_operation_runs_and_changes_the_image_little() -> None:
    method = pixmix(severity=1)
    image = torch.randint(256, (3, 40, 56), dtype=torch.uint8)
    changed = [method._augment(image) for _ in range(120)]
    assert all(one.shape == image.shape and one.dtype == torch.uint8 for one in changed)
    assert len({tuple(one.flatten().tolist()) for one in changed}) > 40


def test_pixels_stay_in_range_and_labels_stay() -> None:
    batch = normalized_batch(12)
    method = pixmix()
    for _ in range(3):
        mixed = method(batch, small_model())
        pixels = Normalization(MEAN, STD).pixels(mixed.images)
        assert pixels.isfinite().all()
        assert float(pixels.min()) >= -1e-5
        assert float(pixels.max()) <= 1 + 1e-5
        assert torch.equal(mixed.targets, one_hot(batch.labels, CLASSES))
    assert not torch.equal(mixed.images, batch.images)


def test_seed_dtype_and_format() -> None:
    batch, model = normalized_batch(5), small_model()
    runs = [pixmix(seed=seed)(batch, model).images for seed in (1, 1, 2)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
    last = Batch(batch.images.to(torch.float16, memory_format=torch.channels_last), batch.labels, batch.index)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        images = pixmix()(last, model).images
    assert images.dtype == torch.float16
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_misuse_is_named() -> None:
    with pytest.raises(ValueError, match="channels"):
        PixMix(CLASSES, mean=(0.5,), std=(0.5,))(normalized_batch(), small_model())
    for wrong in ({"k": -1}, {"beta": 0.0}, {"severity": 11}, {"fractals": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            pixmix(**wrong)


def test_a_pixel_a_rounding_below_black_stays_finite() -> None:
    x = torch.tensor([-1e-9, 0.0, 0.5])
    assert bool(torch.isfinite(multiply(x, torch.full((3,), 0.5), torch.tensor(0.7), torch.tensor(-0.7))).all())
