"""DiffuseMix: half real, half counterpart along a soft seam, then a fractal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import diffcore_gpu as dc
from diffcore_gpu.baselines import Batch, one_hot
from diffcore_gpu.baselines.diffusemix import DiffuseMix, real_weight
from tests.baselines.small_models import MEAN, STD, small_model
from tests.stores import COUNTS, NUM_SAMPLES, SHAPE

ROWS = torch.tensor([0, *np.cumsum(COUNTS).tolist()])


def diffusemix(store: dc.CounterpartStore, **settings: object) -> DiffuseMix:
    return DiffuseMix(2, mean=MEAN, std=STD, store=store, **{"fractals": 3, **settings})  # type: ignore[arg-type]


def batch_of(size: int = NUM_SAMPLES, shape: tuple[int, int, int] = SHAPE) -> Batch:
    generator = torch.Generator().manual_seed(0)
    index = torch.randperm(NUM_SAMPLES, generator=generator)[:size]
    return Batch(torch.randn(size, *shape, generator=generator), index % 2, index)


def normalized(pictures: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (MEAN, STD))
    return (pictures / 255 - mean) / std


def test_the_mask_has_a_seam_of_20_pixels_in_the_middle() -> None:
    left, right, top, bottom = real_weight(np.arange(4), 20, torch.zeros(4, 3, 60, 80))[:, 0]
    ramp = torch.linspace(1, 0, 20)
    torch.testing.assert_close(left[7], torch.cat([torch.ones(30), ramp, torch.zeros(30)]))
    torch.testing.assert_close(top[:, 5], torch.cat([torch.ones(20), ramp, torch.zeros(20)]))
    torch.testing.assert_close(right, 1 - left)
    torch.testing.assert_close(bottom, 1 - top)


def test_it_is_the_equation_with_rows_of_the_sample(store: dc.CounterpartStore) -> None:
    batch = batch_of()
    mixed = diffusemix(store, fractal_weight=0.0, seam=4)(batch, small_model())
    assert torch.equal(mixed.targets, one_hot(batch.labels, 2))
    sides = set()
    for image, real, sample in zip(mixed.images, batch.images, batch.index.tolist(), strict=True):
        if COUNTS[sample] == 0:
            assert torch.equal(image, real)
            continue
        weights = real_weight(np.arange(4), 4, real.expand(4, -1, -1, -1))
        candidates = [
            (side, row, weights[side] * real + (1 - weights[side]) * normalized(store.image(row).float()))
            for side in range(4)
            for row in store.rows(sample).tolist()
        ]
        matches = [side for side, _, candidate in candidates if torch.allclose(image, candidate, atol=1e-4)]
        assert len(matches) == 1
        sides.add(matches[0])
    assert sides == {0, 1, 2, 3}


def test_the_fractal_has_a_fifth(store: dc.CounterpartStore) -> None:
    batch = batch_of()
    plain, blended, alone = (
        diffusemix(store, fractal_weight=weight)(batch, small_model()).images for weight in (0.0, 0.2, 1.0)
    )
    torch.testing.assert_close(blended, 0.8 * plain + 0.2 * alone, atol=1e-5, rtol=1e-5)
    paired = torch.tensor([COUNTS[sample] > 0 for sample in batch.index.tolist()])
    assert (plain[paired] != alone[paired]).flatten(1).any(1).all()
    torch.testing.assert_close(diffusemix(store)(batch, small_model()).images, blended)


def test_rows_are_drawn_anew_and_seeds_repeat(store: dc.CounterpartStore) -> None:
    batch = batch_of()
    methods = [diffusemix(store, seed=seed) for seed in (1, 1, 2)]
    runs = [[method(batch, small_model()).images for _ in range(2)] for method in methods]
    assert all(torch.equal(a, b) for a, b in zip(runs[0], runs[1], strict=True))
    assert not torch.equal(runs[0][0], runs[0][1])
    assert not torch.equal(runs[0][0], runs[2][0])


def test_a_store_in_memory_gives_the_same(store: dc.CounterpartStore) -> None:
    batch = batch_of()
    disk, device = (diffusemix(store, residency=where)(batch, small_model()).images for where in ("disk", "device"))
    assert torch.equal(disk, device)


def test_other_sizes_dtypes_and_formats(store: dc.CounterpartStore) -> None:
    batch = batch_of(4, (3, 32, 32))
    last = Batch(batch.images.to(torch.float16, memory_format=torch.channels_last), batch.labels, batch.index)
    images = diffusemix(store)(last, small_model()).images
    assert images.shape == batch.images.shape
    assert images.dtype == torch.float16
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert images.isfinite().all()


def test_misuse_is_named(store: dc.CounterpartStore, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"made for 3 classes, and .* has 2"):
        DiffuseMix(3, mean=MEAN, std=STD, store=store)
    with pytest.raises(ValueError, match="1 channels, and the counterparts"):
        DiffuseMix(2, mean=(0.5,), std=(0.5,), store=store)
    for wrong in ({"seam": 1}, {"fractal_weight": 1.5}, {"fractals": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            diffusemix(store, **wrong)
    batch = batch_of(2)
    with pytest.raises(ValueError, match="index"):
        diffusemix(store)(Batch(batch.images, batch.labels, batch.index + NUM_SAMPLES), small_model())
    with dc.CounterpartWriter(
        tmp_path / "empty", num_samples=2, image_shape=SHAPE, class_names=["a", "b"], labels=[0, 1]
    ):
        pass
    with pytest.raises(ValueError, match="has none"):
        diffusemix(dc.CounterpartStore.open(tmp_path / "empty"))
