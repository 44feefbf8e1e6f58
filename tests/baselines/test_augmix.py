"""AugMix: torchvision's, image by image, from a generator of its own."""

from __future__ import annotations

import pytest
import torch

from diffcore_gpu.baselines import Batch, one_hot, own_draws
from diffcore_gpu.baselines.augmix import AugMix, to_bytes
from diffcore_gpu.baselines.images import Normalization
from tests.baselines.small_models import CLASSES, MEAN, STD, normalized_batch, small_model

v2 = pytest.importorskip("torchvision.transforms.v2", reason="torchvision is not installed")


def augmix(**settings: object) -> AugMix:
    return AugMix(CLASSES, mean=MEAN, std=STD, **settings)  # type: ignore[arg-type]


def test_each_image_is_torchvisions_with_the_authors_operations() -> None:
    batch, normalization = normalized_batch(4), Normalization(MEAN, STD)
    mixed = augmix(seed=3)(batch, small_model())
    transform = v2.AugMix(severity=3, mixture_width=3, chain_depth=-1, alpha=1.0, all_ops=False)
    with own_draws(torch.Generator().manual_seed(3)):
        expected = torch.stack([transform(image) for image in to_bytes(normalization.pixels(batch.images))])
    torch.testing.assert_close(to_bytes(normalization.pixels(mixed.images)), expected)
    assert torch.equal(mixed.targets, one_hot(batch.labels, CLASSES))


def test_images_draw_chains_of_their_own() -> None:
    batch = normalized_batch(1)
    same = Batch(batch.images.expand(4, -1, -1, -1), batch.labels.expand(4), torch.arange(4))
    mixed = augmix()(same, small_model())
    assert len({tuple(image.flatten().tolist()) for image in mixed.images}) == 4


def test_seed_dtype_and_format() -> None:
    batch, model = normalized_batch(3), small_model()
    state = torch.get_rng_state()
    runs = [augmix(seed=seed)(batch, model).images for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
    last = Batch(batch.images.to(torch.bfloat16, memory_format=torch.channels_last), batch.labels, batch.index)
    images = augmix()(last, model).images
    assert images.dtype == torch.bfloat16
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_misuse_is_named() -> None:
    with pytest.raises(ValueError, match="channels"):
        AugMix(CLASSES, mean=(0.5,), std=(0.5,))(normalized_batch(), small_model())
    with pytest.raises(ValueError, match="1 or 3 channels"):
        AugMix(2, mean=(0.5, 0.5), std=(0.5, 0.5))(
            Batch(torch.rand(2, 2, 8, 8), torch.zeros(2, dtype=torch.int64), torch.arange(2)), small_model()
        )
    for wrong in ({"severity": 0}, {"mixture_width": 0}, {"alpha": 0.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            augmix(**wrong)
