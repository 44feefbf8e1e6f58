"""GuidedMixup: normalized saliency, pixel by pixel weights, labels by their mean, and its pairings."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diffcore_gpu.baselines._base import Batch, Need
from diffcore_gpu.baselines.guided_mixup import GuidedAP, GuidedMixup, GuidedSR
from diffcore_gpu.baselines.one_cycle import greedy_cycle
from diffcore_gpu.baselines.saliency import gradient_saliency
from tests.baselines.small_models import CLASSES, MEAN, STD, normalized_batch, small_model

functional = pytest.importorskip("torchvision.transforms.v2.functional", reason="torchvision is not installed")


@pytest.mark.parametrize("maker", [GuidedSR, GuidedAP])
def test_saliency_maps_have_sum_one_at_the_images_size(maker: type[GuidedSR] | type[GuidedAP]) -> None:
    method = maker(CLASSES, mean=MEAN, std=STD)
    for side in (32, 160):
        maps = method.saliency_maps(normalized_batch(3, side, side + 8), small_model())
        assert maps.shape == (3, side, side + 8)
        assert bool((maps >= 0).all())
        torch.testing.assert_close(maps.sum((1, 2)), torch.ones(3))


@pytest.mark.parametrize("maker", [GuidedSR, GuidedAP])
def test_the_mixture_is_the_equations(maker: type[GuidedSR] | type[GuidedAP]) -> None:
    batch, model = normalized_batch(), small_model().eval()
    batch = Batch(batch.images, torch.arange(6) % CLASSES, batch.index)
    method = maker(CLASSES, mean=MEAN, std=STD, pairing="greedy")
    maps = method.saliency_maps(batch, model)
    mixed = method(batch, model)
    distances = torch.tensor([[float((a - b).norm()) for b in maps] for a in maps])
    order = greedy_cycle(distances).tolist()
    for i, j in enumerate(order):
        assert i != j
        weight = maps[i] / (maps[i] + maps[j])
        expected = weight * batch.images[i] + (1 - weight) * batch.images[j]
        torch.testing.assert_close(mixed.images[i], expected, atol=1e-5, rtol=1e-4)
        target = torch.zeros(CLASSES)
        target[batch.labels[i]] += weight.mean()
        target[batch.labels[j]] += 1 - weight.mean()
        torch.testing.assert_close(mixed.targets[i], target, atol=1e-5, rtol=1e-4)


def test_guided_ap_maps_are_the_blurred_gradient() -> None:
    batch, model = normalized_batch(), small_model().eval()
    ours = GuidedAP(CLASSES, mean=MEAN, std=STD).saliency_maps(batch, model)
    raw = functional.gaussian_blur(gradient_saliency(model, batch.images, batch.labels), [7, 7], [3.0, 3.0])
    torch.testing.assert_close(ours, raw / raw.sum((1, 2), keepdim=True))


@pytest.mark.parametrize("side", [32, 160])
@pytest.mark.parametrize(("maker", "blurs"), [(GuidedSR, 2), (GuidedAP, 1)])
def test_a_call_gives_the_bits_of_blurred_images_of_one_channel_and_blurs_no_more_than_the_equation(
    maker: type[GuidedSR] | type[GuidedAP], blurs: int, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    blur = functional.gaussian_blur
    shapes: list[tuple[int, ...]] = []

    def counted(images: Tensor, *settings: list[float]) -> Tensor:
        shapes.append(tuple(images.shape))
        return blur(images, *settings)

    def as_images(images: Tensor, *settings: list[float]) -> Tensor:
        return blur(images[:, None], *settings)[:, 0]

    batch = normalized_batch(4, side, side)
    mixed = []
    for replacement in (counted, as_images):
        monkeypatch.setattr(functional, "gaussian_blur", replacement)
        mixed.append(maker(CLASSES, mean=MEAN, std=STD)(batch, small_model()))
    assert torch.equal(mixed[0].images, mixed[1].images)
    assert torch.equal(mixed[0].targets, mixed[1].targets)
    assert shapes == [(4, min(side, 128), min(side, 128)), (4, side, side)][-blurs:]


def test_a_pixel_comes_from_the_image_to_which_it_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = torch.zeros(2, 32, 40)
    maps[0, :, :10], maps[1, :, 10:] = 1 / 320, 1 / 960  # a quarter of the columns holds all of the first map
    batch = normalized_batch(2)
    batch = Batch(batch.images, torch.tensor([0, 1]), batch.index)
    method = GuidedSR(2, mean=MEAN, std=STD, pairing="greedy")
    monkeypatch.setattr(method, "saliency_maps", lambda batch, model: maps)
    mixed = method(batch, small_model())
    expected = torch.cat([batch.images[0, :, :, :10], batch.images[1, :, :, 10:]], dim=2)
    torch.testing.assert_close(mixed.images, expected.expand(2, -1, -1, -1))
    torch.testing.assert_close(mixed.targets, torch.tensor([[0.25, 0.75], [0.25, 0.75]]))


def test_random_pairing_is_a_permutation_that_changes() -> None:
    size = 5
    images = torch.randn(size, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    batch = Batch(images, torch.arange(size), torch.arange(size))
    method = GuidedSR(size, mean=MEAN, std=STD, pairing="random")
    seen = set()
    for _ in range(10):
        targets = method(batch, small_model()).targets
        partners = [int(row.index_fill(0, torch.tensor([i]), 0.0).argmax()) if row[i] < 1 else i
                    for i, row in enumerate(targets)]  # fmt: skip
        assert sorted(partners) == list(range(size))
        seen.add(tuple(partners))
    assert len(seen) > 5


def test_blank_images_are_mixed_half_and_half() -> None:
    batch = Batch(torch.zeros(2, 3, 32, 32), torch.tensor([0, 1]), torch.arange(2))
    mixed = GuidedSR(2, mean=MEAN, std=STD)(batch, small_model())
    assert bool(mixed.images.isfinite().all())
    torch.testing.assert_close(mixed.targets, torch.full((2, 2), 0.5))


def test_names_and_needs() -> None:
    for saliency, needs in (("sr", Need.PAIRS), ("ap", Need.PAIRS | Need.GRADIENTS)):
        for pairing in ("random", "greedy"):
            method = GuidedMixup(CLASSES, mean=MEAN, std=STD, saliency=saliency, pairing=pairing)
            assert method.name == f"guided-{saliency}-{pairing}"
            assert method.needs == needs


def test_bad_settings_and_images() -> None:
    for settings, message in (
        ({"saliency": "cam"}, 'saliency as "sr" or "ap"'),
        ({"pairing": "optimal"}, 'pairing as "random" or "greedy"'),
        ({"kernel_size": 6}, "must be odd"),
        ({"sigma": 0.0}, "sigma of GuidedMixup"),
    ):
        with pytest.raises(ValueError, match=message):
            GuidedMixup(CLASSES, mean=MEAN, std=STD, **settings)
    with pytest.raises(ValueError, match="larger than half its blur"):
        GuidedSR(CLASSES, mean=MEAN, std=STD)(normalized_batch(2, 3, 40), small_model())
