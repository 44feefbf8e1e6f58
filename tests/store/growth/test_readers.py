"""Who has opened a store keeps reading what it opened while the store changes."""

from __future__ import annotations

import multiprocessing
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from diffcore_gpu.errors import StoreError
from diffcore_gpu.store import CounterpartStore, CounterpartWriter, prune, rebind
from tests.store import work


def append(path):
    with CounterpartWriter(path, **work.arguments(), append=True) as writer:
        for row in range(writer.num_rows, writer.num_rows + 7):
            work.add(writer, row)


def keep_the_best(path):
    prune(path, best=1)


def another_order(path):
    rebind(
        path, [None] * 12, class_names=["red", "green", "blue"], labels=work.LABELS[::-1], file_names=work.NAMES[::-1]
    )


CHANGES = [append, keep_the_best, another_order]


def everything(store):
    """What a reader can ask of the first 23 rows, and of the samples."""
    columns = [store.row_column(name, range(23)).tolist() for name in store.row_columns]
    rows = [store.rows(sample).tolist() for sample in range(12)]
    return store.images(range(23)).numpy().tobytes(), columns, rows, store.labels.tolist(), store.checksum


@pytest.mark.parametrize("reading", ["map", "pread"])
@pytest.mark.parametrize("change", CHANGES)
def test_an_open_reader(tmp_path, change, reading):
    expected = everything(work.build(tmp_path / "store"))
    reader = CounterpartStore.open(tmp_path / "store", reading=reading)
    change(tmp_path / "store")
    assert CounterpartStore.open(tmp_path / "store").checksum != reader.checksum
    assert everything(reader) == expected  # the columns are read only now
    reader.require_unchanged()


@pytest.mark.parametrize("change", CHANGES)
def test_a_pickled_reader(tmp_path, change):
    expected = everything(work.build(tmp_path / "store"))
    pickled = pickle.dumps(CounterpartStore.open(tmp_path / "store"))
    change(tmp_path / "store")
    assert everything(pickle.loads(pickled)) == expected


def test_images_stay_when_a_store_grows_again_and_again(tmp_path):
    store = work.build(tmp_path / "store")
    expected = everything(store)
    for _ in range(4):
        append(store.path)
    assert everything(store) == expected
    now = CounterpartStore.open(store.path)
    now.verify()
    assert now.num_rows == 23 + 4 * 7
    assert torch.equal(now.images(range(23)), store.images(range(23)))


def test_a_reader_of_what_was_compacted_is_told(tmp_path):
    store = work.build(tmp_path / "store")
    prune(store.path, best=1, compact=True)
    with pytest.raises(StoreError, match="cannot be read any more"):
        store.images(range(23))
    with pytest.raises(StoreError, match="another store has been put there since it was opened; open it again"):
        pickle.loads(pickle.dumps(store))


class Rows(Dataset):
    """The first row of every sample, by sample; it grows the store when it is first asked."""

    def __init__(self, store):
        self.store = store

    def __len__(self):
        return 11

    def __getitem__(self, sample):
        row = int(self.store.rows(sample)[0])
        return self.store.image(row), int(self.store.row_seed([row])), self.store.num_rows


@pytest.mark.parametrize(
    "method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)]
)  # processes that begin anew take seconds
def test_the_workers_of_a_loader(tmp_path, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"there is no {method} here")
    store = work.build(tmp_path / "store")
    loader = DataLoader(
        Rows(store), batch_size=3, num_workers=1, multiprocessing_context=method, persistent_workers=method == "fork"
    )
    before = [[part.clone() for part in batch] for batch in loader]
    append(store.path)
    after = list(loader)  # spawned workers open what the parent has opened
    for one, other in zip(before, after, strict=True):
        assert all(torch.equal(*parts) for parts in zip(one, other, strict=True))
    assert int(after[0][2][0]) == 23
    best = [int(store.rows(sample)[0]) for sample in range(11)]
    images = torch.cat([batch[0] for batch in after]).numpy()
    assert all(np.array_equal(image, work.image(row)) for image, row in zip(images, best, strict=True))
