"""Datasets that say which sample they return."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from diffcore_gpu.data import IndexedDataset
from diffcore_gpu.kernels.spec import SAMPLE_BITS


class Squares(Dataset):
    """Items (i², i) and an attribute; counts how items are asked for."""

    targets = (0, 1, 2, 3, 4)

    def __init__(self):
        self.calls = []

    def __len__(self):
        return 5

    def __getitem__(self, index):
        self.calls.append(index)
        return index**2, index


class Batched(Squares):
    def __getitems__(self, indices):
        self.calls.append(list(indices))
        return [(index**2, index) for index in indices]


def test_items_end_with_their_index():
    dataset = IndexedDataset(Squares())
    assert len(dataset) == 5
    assert dataset[3] == (9, 3, 3)
    assert dataset[-1] == (16, 4, 4)
    assert dataset[torch.tensor(2)] == (4, 2, 2)
    for outside in (5, -6):
        with pytest.raises(IndexError, match="outside a dataset of 5 samples"):
            dataset[outside]


def test_an_item_that_is_no_tuple():
    assert IndexedDataset([7, 8])[1] == (8, 1)
    assert IndexedDataset([[7, 8]])[0] == (7, 8, 0)


def test_batches():
    dataset = IndexedDataset(Batched())
    assert dataset.__getitems__([4, -4]) == [(16, 4, 4), (1, 1, 1)]
    assert dataset.calls == [[4, 1]]
    assert IndexedDataset(Squares()).__getitems__([4, 0]) == [(16, 4, 4), (0, 0, 0)]


def test_attributes_are_those_of_the_dataset():
    dataset = IndexedDataset(Squares())
    assert dataset.targets == (0, 1, 2, 3, 4)
    with pytest.raises(AttributeError, match="classes"):
        _ = dataset.classes


def test_copies_and_pickles():
    for dataset in (pickle.loads(pickle.dumps(IndexedDataset(Squares()))), copy.deepcopy(IndexedDataset(Squares()))):
        assert type(dataset) is IndexedDataset
        assert dataset[2] == (4, 2, 2)
    with pytest.raises(AttributeError):
        _ = IndexedDataset.__new__(IndexedDataset).targets


@pytest.mark.parametrize("kind", [Squares, Batched])
def test_the_index_is_that_of_what_is_inside(kind):
    assert [item[-1] for item in Subset(IndexedDataset(kind()), [4, 2])] == [4, 2]
    assert [item[-1] for item in DataLoader(Subset(IndexedDataset(kind()), [4, 2]), batch_size=None)] == [4, 2]
    assert next(iter(DataLoader(Subset(IndexedDataset(kind()), [4, 2]), batch_size=2)))[2].tolist() == [4, 2]
    assert IndexedDataset(Subset(kind(), [4, 2]))[1] == (4, 2, 1)


def test_workers():
    dataset = IndexedDataset(TensorDataset(torch.arange(6) * 10, torch.arange(6)))
    for values, labels, index in DataLoader(
        dataset, batch_size=3, shuffle=True, num_workers=1, multiprocessing_context="spawn"
    ):
        assert torch.equal(values, index * 10)
        assert torch.equal(labels, index)


def test_iterable_datasets_have_no_index():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(())

    with pytest.raises(TypeError, match="Stream have no index"):
        IndexedDataset(Stream())
    with pytest.raises(TypeError, match="int have no index"):
        IndexedDataset(7)


def test_a_part_counts_in_the_whole():
    dataset = IndexedDataset(Squares(), [4, 2])
    assert len(dataset) == 2
    assert dataset[0] == (16, 4, 4)
    assert dataset[-1] == (4, 2, 2)
    assert dataset.__getitems__([1, 0]) == [(4, 2, 2), (16, 4, 4)]
    assert pickle.loads(pickle.dumps(dataset))[1] == (4, 2, 2)
    with pytest.raises(IndexError, match="outside a dataset of 2 samples"):
        dataset[2]
    with pytest.raises(IndexError, match="part names position 5, outside a dataset of 5 samples"):
        IndexedDataset(Squares(), [5])


def test_the_occurrence_of_a_sample_is_handed_on():
    again = 3 << SAMPLE_BITS
    assert IndexedDataset(Squares())[2 | again] == (4, 2, 2 | again)
    assert IndexedDataset(Squares(), [4, 2])[1 | again] == (4, 2, 2 | again)
    assert IndexedDataset(Squares(), [4, 2]).__getitems__([0, 1 | again]) == [(16, 4, 4), (4, 2, 2 | again)]
    with pytest.raises(IndexError, match="index 5 is outside a dataset of 5 samples"):
        IndexedDataset(Squares())[5 | again]
