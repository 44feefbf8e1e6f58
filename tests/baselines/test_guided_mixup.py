"""GuidedMixup: normalized saliency, pixel by pixel weights, labels by their mean, and its pairings."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from diffcore_gpu.baselines import Batch, Need
from diffcore_gpu.baselines.guided_mixup import GuidedAP, GuidedMixup, GuidedSR, greedy_cycle, squared_distances
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
    for saliency, needs in (("sr", Need.PARTNERS), ("ap", Need.PARTNERS | Need.GRADIENTS)):
        for pairing in ("random", "greedy"):
            method = GuidedMixup(CLASSES, mean=MEAN, std=STD, saliency=saliency, pairing=pairing)
            assert method.name == f"guided-{saliency}-{pairing}"
            assert method.needs == needs


def test_bad_settings_and_images() -> None:
    for wrong, message in (
        ({"saliency": "cam"}, 'saliency as "sr" or "ap"'),
        ({"pairing": "optimal"}, 'pairing as "random" or "greedy"'),
        ({"kernel_size": 6}, "must be odd"),
        ({"sigma": 0.0}, "sigma of GuidedMixup"),
    ):
        with pytest.raises(ValueError, match=message):
            GuidedMixup(CLASSES, mean=MEAN, std=STD, **wrong)
    with pytest.raises(ValueError, match="larger than half its blur"):
        GuidedSR(CLASSES, mean=MEAN, std=STD)(normalized_batch(2, 3, 40), small_model())


def walk_by_the_definition(distances: list[list[float]]) -> list[int]:
    """Plain Python, on lists, with a set of what was visited."""
    size = len(distances)
    edges = [(i, j) for i in range(size) for j in range(size) if i != j]
    start, current = max(edges, key=lambda edge: distances[edge[0]][edge[1]])  # the first of equals
    visited, order = [start, current], [0] * size
    order[start] = current
    while len(visited) < size:
        left = [i for i in range(size) if i not in visited]
        following = max(left, key=lambda i: distances[current][i])
        order[current] = following
        visited.append(following)
        current = following
    order[current] = start
    return order


@given(st.integers(2, 64), st.integers(0, 2**31), st.booleans())
def test_the_walk_is_the_definition_and_one_cycle(size: int, seed: int, ties: bool) -> None:
    maps = torch.rand(size, 5, generator=torch.Generator().manual_seed(seed))
    if ties:
        maps = (maps * 2).round()
    distances = squared_distances(maps)
    order = greedy_cycle(distances)
    assert order.dtype == torch.int64
    assert order.tolist() == walk_by_the_definition(distances.tolist())
    visited, current = [], 0
    for _ in range(size):
        visited.append(current)
        current = int(order[current])
    assert current == 0
    assert sorted(visited) == list(range(size))


def test_what_is_on_the_diagonal_does_not_matter_and_the_distances_are_not_changed() -> None:
    distances = squared_distances(torch.rand(7, 9, generator=torch.Generator().manual_seed(0)))
    other = distances.clone().fill_diagonal_(100.0)
    before = other.clone()
    assert torch.equal(greedy_cycle(other), greedy_cycle(distances))
    assert torch.equal(other, before)


def test_identical_images_still_give_one_cycle() -> None:
    order = greedy_cycle(torch.zeros(5, 5))
    assert sorted(order.tolist()) == list(range(5))
    assert all(int(order[i]) != i for i in range(5))


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_squared_distances_are_those_of_differences(offset: float) -> None:
    maps = torch.rand(9, 8, 8, generator=torch.Generator().manual_seed(1)) * 1e-4 + offset
    expected = torch.tensor(
        [[float((a.double() - b.double()).square().sum()) for a in maps] for b in maps], dtype=torch.float64
    )
    ours = squared_distances(maps)
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9 * float(expected.max()))
    assert torch.equal(ours, ours.T)


def test_the_start_is_the_farthest() -> None:
    for seed in range(5):
        distances = squared_distances(torch.rand(6, 4, generator=torch.Generator().manual_seed(seed)))
        order = greedy_cycle(distances)
        farthest = max(itertools.combinations(range(6), 2), key=lambda edge: float(distances[edge]))
        assert int(order[farthest[0]]) == farthest[1]
