"""A store in which only a part of the samples has counterparts."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import diffcore_gpu as dc
from diffcore_gpu.errors import StoreError
from diffcore_gpu.store.reader import pairs_of
from tests.stores import COUNTS, NUM_SAMPLES, SHAPE, write_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> dc.CounterpartStore:
    return write_store(tmp_path_factory.mktemp("store") / "s")


def test_the_given_samples_keep_their_rows_and_the_others_have_none(store: dc.CounterpartStore) -> None:
    part = [23, 2, 3, 2]
    restricted = store.restricted_to(part)
    for sample in range(NUM_SAMPLES):
        if sample in part:
            assert torch.equal(restricted.rows(sample), store.rows(sample))
            assert torch.equal(restricted.similarities(sample), store.similarities(sample))
        else:
            assert len(restricted.rows(sample)) == 0
    assert restricted.num_pairs == sum(COUNTS[sample] for sample in set(part))
    assert restricted.coverage == 3 / NUM_SAMPLES
    assert restricted.num_rows == store.num_rows
    assert store.num_pairs == sum(COUNTS)  # itself unchanged
    restricted.verify()


def test_it_is_the_same_after_a_trip_to_another_process(store: dc.CounterpartStore) -> None:
    restricted = store.restricted_to(np.array([1, 3])).restricted_to(torch.tensor([3, 5]))
    again = pickle.loads(pickle.dumps(restricted))
    assert torch.equal(again.pair_ptr, restricted.pair_ptr)
    assert [len(again.rows(sample)) > 0 for sample in (1, 3, 5)] == [False, True, False]


@pytest.mark.parametrize("wrong", [[-1], [NUM_SAMPLES], [0, 99]])
def test_a_sample_outside_is_refused(store: dc.CounterpartStore, wrong: list[int]) -> None:
    with pytest.raises(StoreError, match=rf"sample {wrong[-1]} is outside the store's {NUM_SAMPLES} samples"):
        store.restricted_to(wrong)


@pytest.mark.parametrize("part", [[], range(0, NUM_SAMPLES, 2)])
def test_the_transform_mixes_the_part_alone(store: dc.CounterpartStore, part: list[int]) -> None:
    restricted = store.restricted_to(list(part))
    index = torch.arange(NUM_SAMPLES)
    images = torch.rand(NUM_SAMPLES, *SHAPE)
    whole, some = (dc.DiffCoreMix(which, seed=3)(images, index) for which in (store, restricted))
    for sample in range(NUM_SAMPLES):
        assert torch.equal(some[sample], whole[sample] if sample in part else images[sample])


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.data())
def test_pairs_of_a_part_against_a_plain_loop(counts: list[int], data: st.DataObject) -> None:
    pointer = torch.tensor([0, *counts]).cumsum(0)
    samples = data.draw(st.lists(st.integers(0, len(counts) - 1), max_size=20))
    new, chosen = pairs_of(pointer, np.array(samples, np.int64))
    expected, ends = [], [0]
    for sample in range(len(counts)):
        if sample in samples:
            expected += list(range(int(pointer[sample]), int(pointer[sample + 1])))
        ends.append(len(expected))
    assert new.tolist() == ends
    assert chosen.tolist() == expected
