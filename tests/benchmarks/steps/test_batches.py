"""Where training steps get their batches: the whole store is walked, and every residency brings the same images."""

from __future__ import annotations

import itertools
import threading
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffcore_gpu import CounterpartStore
from diffcore_gpu.benchmarks.harness.random_data import CLASSES
from diffcore_gpu.benchmarks.steps.batches import Fed, Input, make_feed, make_ours, random_feed, walk
from diffcore_gpu.store.residency import Residency

CPU = torch.device("cpu")


@given(st.integers(1, 40), st.integers(1, 60))
def test_a_walk_takes_all_samples_equally_often(samples: int, batch_size: int) -> None:
    found = walk(samples, batch_size)
    assert all(index.shape == (batch_size,) for index in found)
    taken = torch.cat(found)
    times = len(taken) // samples
    assert Counter(taken.tolist()) == dict.fromkeys(range(samples), times)
    for begin in range(times):  # none comes again before all have come
        assert sorted(taken[begin * samples : (begin + 1) * samples].tolist()) == list(range(samples))
    assert times * samples == len(found) * batch_size
    assert all(torch.equal(one, other) for one, other in zip(found, walk(samples, batch_size), strict=True))


def taken(batches: Fed, count: int) -> list[list[int]]:
    return [batches.next()[0].index.tolist() for _ in range(count)]


@pytest.mark.parametrize("prefetch", [False, True])
def test_every_method_walks_the_whole_store(small_store: CounterpartStore, prefetch: bool) -> None:
    feed = random_feed(small_store, 3, 32, CPU, torch.channels_last, prefetch=prefetch)
    first, second = feed.batches(), feed.batches()
    seen = taken(first, 8)
    assert Counter(itertools.chain(*seen)) == dict.fromkeys(range(8), 3)
    assert len({tuple(index) for index in seen}) > 1
    assert taken(second, 8) == seen  # the same for every method, whatever the others took
    assert taken(first, 8) == seen  # and again without end
    batch, waited = first.next()
    assert batch.labels.tolist() == small_store.labels[batch.index].tolist()
    assert batch.images.shape == (3, 3, 32, 32)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.images.mean().abs() < 1
    assert waited >= 0
    assert feed.waits is prefetch
    feed.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("diffcore-prefetch")]


@pytest.mark.parametrize("residency", ["device", "host", "disk"])
def test_counterparts_are_the_same_wherever_they_live(small_store: CounterpartStore, residency: Residency) -> None:
    how = {"size": 32, "memory_format": "contiguous", "workers": 0}
    made = Input(small_store, CLASSES, None)
    mixed = []
    for where in ("auto", residency):
        ours, prefetch = make_ours(made, where, CPU)
        assert prefetch == (where in ("host", "disk"))
        assert ours.residency == ("disk" if where == "auto" else where)
        feed = make_feed(made, 3, CPU, prefetch=prefetch, **how)
        theirs, batches = feed.batches(), feed.batches(ours)
        found = []
        for _ in range(9):
            theirs.next()  # another method's turn changes nothing
            batch, _waited = batches.next()
            assert isinstance(ours.handover.find(batch.index, ours.next_draw()), str) != prefetch
            found.append(ours(batch.images, batch.index))
            assert not torch.equal(found[-1], batch.images)
        feed.close()
        mixed.append(torch.stack(found))
    assert torch.equal(*mixed)
