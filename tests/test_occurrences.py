"""Samples that are drawn again in an epoch: counted over all ranks, exact under resume, and mixed by another plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    RandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

import diffcore_gpu as dc
from diffcore_gpu.kernels.spec import SAMPLE_BITS
from tests.stores import NUM_SAMPLES, SHAPE

MASK = (1 << SAMPLE_BITS) - 1


def split(index: int) -> tuple[int, int]:
    """(sample, occurrence)."""
    return index & MASK, index >> SAMPLE_BITS


@given(st.lists(st.integers(0, 5), max_size=30))
def test_each_draw_says_how_often_its_sample_was_drawn_before(drawn: list[int]) -> None:
    seen: Counter[int] = Counter()
    for index, sample in zip(dc.OccurrenceSampler(drawn), drawn, strict=True):
        assert split(index) == (sample, seen[sample])
        seen[sample] += 1


def test_every_iteration_is_an_epoch_and_first_draws_stay_as_they_are() -> None:
    sampler = dc.OccurrenceSampler(RandomSampler(range(50), generator=torch.Generator().manual_seed(1)))
    for _ in range(2):
        assert sorted(sampler) == list(range(50))
    assert len(sampler) == 50


def test_batches_are_counted_in_their_order() -> None:
    batches = dc.OccurrenceSampler(BatchSampler([1, 2, 1, 1, 2], 2, drop_last=False))
    assert [[split(index) for index in batch] for batch in batches] == [
        [(1, 0), (2, 0)],
        [(1, 1), (1, 2)],
        [(2, 1)],
    ]


def of_ranks(replicas: int, epoch: int = 3, length: int = 10) -> list[int]:
    """What all ranks draw, in the order of the epoch."""
    ranks = []
    for rank in range(replicas):
        sampler = dc.OccurrenceSampler(DistributedSampler(range(length), num_replicas=replicas, rank=rank))
        sampler.set_epoch(epoch)
        ranks.append(list(sampler))
    assert len({len(rank) for rank in ranks}) == 1
    return [index for step in zip(*ranks, strict=True) for index in step]


@pytest.mark.parametrize("replicas", [1, 2, 3, 4, 7])
def test_ranks_count_together(replicas: int) -> None:
    drawn = of_ranks(replicas)
    assert drawn[:10] == of_ranks(1)
    assert len(set(drawn)) == len(drawn) == -(-10 // replicas) * replicas
    assert all(split(index)[1] == 1 for index in drawn[10:])  # what fills up the ranks was drawn before


class Repeated:
    """Repeated augmentation as timm's sampler does it: each sample three times in a row, dealt out to the ranks."""

    def __init__(self, replicas: int, rank: int) -> None:
        self.num_replicas, self.rank = replicas, rank

    def __iter__(self) -> Iterator[int]:
        order = torch.randperm(8, generator=torch.Generator().manual_seed(0)).repeat_interleave(3).tolist()
        return iter(order[self.rank :: self.num_replicas])


@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_repeated_augmentation_over_ranks(replicas: int) -> None:
    ranks = [list(dc.OccurrenceSampler(Repeated(replicas, rank))) for rank in range(replicas)]
    together = {split(index) for rank in ranks for index in rank}
    assert together == {(sample, occurrence) for sample in range(8) for occurrence in range(3)}


def test_bad_indices_are_refused() -> None:
    for index in (-1, 1 << SAMPLE_BITS):
        with pytest.raises(ValueError, match=f"the sampler drew index {index}, but samples are numbered from 0"):
            list(dc.OccurrenceSampler([index]))
    with pytest.raises(TypeError, match="generator has no length"):
        len(dc.OccurrenceSampler(x for x in ()))


def test_draws_of_a_sample_are_mixed_by_plans_of_their_own(store: dc.CounterpartStore) -> None:
    """By a real loader with workers, as a weighted sampler draws; and a run that is resumed goes on alike."""
    images = torch.randn(NUM_SAMPLES, *SHAPE, generator=torch.Generator().manual_seed(2))
    dataset = dc.IndexedDataset(TensorDataset(images))
    weights = torch.ones(NUM_SAMPLES, dtype=torch.double)
    weights[3] = 20.0

    def loader(counted: bool) -> DataLoader:
        sampler = WeightedRandomSampler(weights, 40, generator=torch.Generator().manual_seed(5))
        return DataLoader(
            dataset, batch_size=8, sampler=dc.OccurrenceSampler(sampler) if counted else sampler, num_workers=2
        )

    def mixed(counted: bool, skip: int = 0) -> list[tuple[int, torch.Tensor]]:
        mix = dc.DiffCoreMix(store, pixel_prob=1.0)
        mix.set_epoch(1)
        found = []
        for batch, index in islice(loader(counted), skip, None):
            found += zip(index.tolist(), mix(batch, index), strict=True)
        return found

    plain, counted = mixed(False), mixed(True)
    of_three = [[image for index, image in draws if split(index)[0] == 3] for draws in (plain, counted)]
    assert len(of_three[0]) == len(of_three[1]) > 5
    assert all(torch.equal(image, of_three[0][0]) for image in of_three[0])
    assert len({image.sum().item() for image in of_three[1]}) == len(of_three[1])
    first = {index: image for index, image in counted if split(index)[1] == 0}
    for index, image in plain:
        if (index, 0) == split(index):
            assert torch.equal(image, first[index])
    for (index, image), (again, other) in zip(mixed(True, skip=2), counted[16:], strict=True):
        assert index == again
        assert torch.equal(image, other)
