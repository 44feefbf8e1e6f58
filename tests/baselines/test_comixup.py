"""Co-Mixup: mosaics of a partition, labels by what is seen, and what a training loop sees of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diffcore_gpu.baselines import Batch, Mixed
from diffcore_gpu.baselines.comixup import CoMixup, compatibility, mosaic, most_salient_places
from tests.baselines.small_models import MEAN, STD, normalized_batch, small_model

pytest.importorskip("gco", reason="gco-wrapper is not installed")

MANY = 45


def comixup(classes: int = 5, **settings: object) -> CoMixup:
    return CoMixup(classes, mean=MEAN, std=STD, **settings)  # type: ignore[arg-type]


def constant_images(size: int, side: int = 16) -> Batch:
    values = torch.arange(1.0, size + 1) / size
    labels = torch.arange(size)
    return Batch(values.reshape(-1, 1, 1, 1).expand(-1, 3, side, side).clone(), labels, labels)


def many_classes() -> torch.nn.Module:
    model = small_model()
    model.fc = torch.nn.Linear(12, MANY)
    return model


def check_what_is_seen(mixed: Mixed, size: int) -> None:
    torch.testing.assert_close(mixed.targets.sum(1), torch.ones(size))
    seen = mixed.targets[:, :size] @ (torch.arange(1.0, size + 1) / size)
    torch.testing.assert_close(mixed.images.mean((1, 2, 3)), seen, atol=1e-5, rtol=1e-5)


def test_as_many_outputs_as_inputs_from_partitions_of_20() -> None:
    method, model = comixup(MANY), many_classes()
    for _ in range(2):
        mixed = method(constant_images(MANY), model)
        assert mixed.images.shape == (MANY, 3, 16, 16)
        check_what_is_seen(mixed, MANY)
        for start in range(0, MANY, 20):
            part = slice(start, start + 20)
            torch.testing.assert_close(mixed.targets[part, part].sum(1), torch.ones(len(range(MANY)[part])))
    assert ((mixed.targets > 0).sum(1) > 1).any()


def test_a_last_partition_of_one_is_not_mixed() -> None:
    batch = constant_images(21)
    mixed = comixup(MANY)(batch, many_classes())
    torch.testing.assert_close(mixed.images[20], batch.images[20])
    assert mixed.targets[20, 20] == 1


def test_mosaic_takes_blocks_in_place() -> None:
    images = normalized_batch(3, 8, 12).images
    shows = torch.zeros(2, 4, 4, 3)
    shows[0, ..., 1] = 1
    shows[1, ..., 0] = 1
    shows[1, 2, 3] = torch.tensor([0.0, 0.5, 0.5])
    out = mosaic(images, shows)
    torch.testing.assert_close(out[0], images[1])
    expected = images[0].clone()
    expected[:, 4:6, 9:12] = (images[1] + images[2])[:, 4:6, 9:12] / 2
    torch.testing.assert_close(out[1], expected)


def test_the_most_salient_place() -> None:
    saliency = torch.zeros(2, 20, 30)
    saliency[0, 5:13, 17:25] = 1
    saliency[1, -8:, :8] = 1
    assert most_salient_places(saliency).tolist() == [[5, 17], [12, 0]]
    assert most_salient_places(torch.ones(1, 4, 4)).tolist() == [[0, 0]]


def test_compatibility_is_near_the_identity() -> None:
    places = np.array([[0.0, 0], [3, 4], [6, 0]])
    found = compatibility(places, 0.1)
    distances = np.array([[0, 7, 6], [7, 0, 7], [6, 7, 0]])
    np.testing.assert_allclose(found, 0.9 * np.eye(3) + 0.1 * distances * 3 / 40)
    np.testing.assert_allclose(compatibility(np.zeros((2, 2)), 0.5), np.eye(2) / 2)


def test_the_model_is_left_as_it_was_and_seeds_repeat() -> None:
    batch, model = normalized_batch(5, 16, 24), small_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    runs = [comixup(seed=seed)(batch, model) for seed in (1, 1, 2)]
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(runs[0].images, runs[1].images)
    assert torch.equal(runs[0].targets, runs[1].targets)
    assert not torch.equal(runs[0].targets, runs[2].targets)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_channels_last(dtype: torch.dtype) -> None:
    batch = normalized_batch(4, 16, 16)
    last = Batch(batch.images.to(dtype, memory_format=torch.channels_last), batch.labels, batch.index)
    mixed = comixup()(last, small_model().to(dtype))
    assert mixed.images.dtype == dtype
    assert mixed.images.is_contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=dtype):
        mixed = comixup()(constant_images(4), small_model())
    check_what_is_seen(mixed, 4)


def test_misuse_is_named() -> None:
    with pytest.raises(ValueError, match="too small"):
        comixup()(normalized_batch(1, 16, 16), small_model())
    with pytest.raises(ValueError, match="multiple of 4"):
        comixup()(normalized_batch(2, 16, 18), small_model())
    for wrong in ({"partition": 1}, {"omega": 2.0}, {"alpha": 0}, {"rounds": 0}, {"blocks": 1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            comixup(**wrong)
