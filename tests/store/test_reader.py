"""What an opened store gives, in this process and in others."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

import diffcore_gpu as dc
from diffcore_gpu.errors import StoreError
from diffcore_gpu.store import CounterpartStore, CounterpartWriter
from diffcore_gpu.store.reader import pairs_of
from tests.store import work
from tests.stores import COUNTS, NUM_SAMPLES, SHAPE, write_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return work.build(tmp_path_factory.mktemp("stores") / "store")


def test_what_it_says(store):
    assert store.image_shape == work.SHAPE
    assert (store.num_samples, store.num_rows) == (work.NUM_SAMPLES, work.NUM_ROWS)
    assert store.num_pairs == sum(1 for row in range(work.NUM_ROWS) for _ in work.pairs_of(row))
    assert store.coverage == 11 / 12
    assert store.class_names == ["red", "green", "blue"]
    assert store.labels.tolist() == work.LABELS
    assert store.labels.dtype == torch.int64
    assert store.metadata == {"model": "test", "guidance": 7.5, "generated": work.NUM_ROWS}
    assert [shard.shape[0] for shard in store.image_shards] == [5, 5, 5, 5, 3]
    assert "23 rows of 3×4×6" in repr(store)


def test_every_row(store):
    images = store.images(torch.arange(work.NUM_ROWS))
    for row in range(work.NUM_ROWS):
        assert np.array_equal(images[row].numpy(), work.image(row))
        assert torch.equal(store.image(row), images[row])
    assert store.row_label().tolist() == [row % 3 for row in range(work.NUM_ROWS)]
    assert store.row_seed([3, 1]).tolist() == [2995, 995]
    assert store.row_attempt([3, 2]).tolist() == [1, 0]
    prompts = store.row_prompt()
    assert (prompts.dtype, int(prompts[5])) == (torch.int32, -1)
    assert store.prompts[prompts[6]] == "a “2” in the snow"


def test_every_pair(store):
    store.verify()
    for sample in range(work.NUM_SAMPLES):
        expected = {row for row in range(work.NUM_ROWS) if sample in dict(work.pairs_of(row))}
        rows = store.rows(sample)
        assert set(rows.tolist()) == expected
        for row, similarity in zip(rows.tolist(), store.similarities(sample).tolist(), strict=True):
            assert np.float32(dict(work.pairs_of(row))[sample]).tobytes() == np.float32(similarity).tobytes()


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [22],
        [4, 4, 4],
        [0, 22, 7, 7, 1],
        np.array([3, 2], np.uint8),
        torch.tensor([9, 8], dtype=torch.int32),
        range(5, 10),
    ],
)
def test_images_in_any_order(store, rows):
    images = store.images(rows)
    assert images.dtype == torch.uint8
    assert images.shape == (len(rows), *work.SHAPE)
    assert all(np.array_equal(image.numpy(), work.image(int(row))) for image, row in zip(images, rows, strict=True))
    out = torch.zeros_like(images)
    assert store.images(rows, out=out) is out
    assert torch.equal(out, images)


@pytest.mark.parametrize("shape", [(1, 3, 5), (3, 8, 8)], ids=["odd bytes", "wide"])
def test_images_of_any_size(tmp_path, shape):
    made = torch.randint(0, 256, (7, *shape), dtype=torch.uint8)
    with CounterpartWriter(tmp_path / "s", **work.arguments(image_shape=shape, rows_per_shard=4)) as writer:
        for image in made:
            writer.add_row(image, label=0)
    assert torch.equal(CounterpartStore.open(tmp_path / "s").images([6, 0, 3, 2, 1]), made[[6, 0, 3, 2, 1]])


def test_out_may_lie_at_an_odd_place(store):
    out = torch.zeros(2 * 72 + 1, dtype=torch.uint8)[1:].view(2, *work.SHAPE)
    for rows in ([1, 3], [1, 22]):
        assert torch.equal(store.images(rows, out=out), torch.stack([store.image(row) for row in rows]))


def test_a_change_to_a_result_reaches_neither_store_nor_disk(store):
    store.images([0]).fill_(7)
    store.row_label().fill_(7)
    again = CounterpartStore.open(store.path)
    again.image(1).fill_(7)
    assert np.array_equal(store.images([0])[0].numpy(), work.image(0))
    assert np.array_equal(store.image(1).numpy(), work.image(1))
    assert int(store.row_label([0])) == 0
    store.verify()


@pytest.mark.parametrize("rows", [[23], [-1], [0, 1 << 40]])
def test_rows_out_of_range(store, rows):
    with pytest.raises(StoreError, match="outside the store's 23 rows"):
        store.images(rows)
    with pytest.raises(StoreError, match="outside the store's 23 rows"):
        store.row_seed(rows)
    with pytest.raises(StoreError, match="row"):
        store.image(rows[-1])


@pytest.mark.parametrize("sample", [12, -1, 1.5, "a", None])
def test_samples_out_of_range(store, sample):
    with pytest.raises(StoreError, match="sample"):
        store.rows(sample)
    with pytest.raises(StoreError, match="sample"):
        store.similarities(sample)


@pytest.mark.parametrize("rows", [[0.5], "ab", [[0]], [None]])
def test_rows_that_are_no_numbers(store, rows):
    with pytest.raises(StoreError, match="rows: "):
        store.images(rows)


@pytest.mark.parametrize(
    "out",
    [
        torch.empty(2, *work.SHAPE),
        torch.empty(3, *work.SHAPE, dtype=torch.uint8),
        torch.empty(2, 6, 4, 3, dtype=torch.uint8).mT,
    ],
)
def test_out_must_fit(store, out):
    with pytest.raises(StoreError, match="out must be"):
        store.images([0, 1], out=out)


def test_copies_share_and_pickles_reopen(store):
    assert copy.copy(store) is store
    assert copy.deepcopy({"store": store})["store"].image_shards[0].data_ptr() == store.image_shards[0].data_ptr()
    data = pickle.dumps(store)
    assert len(data) < 4000  # the manifest, not the images
    assert torch.equal(pickle.loads(data).images([3]), store.images([3]))


def test_a_pickle_refuses_another_store(tmp_path):
    data = pickle.dumps(work.build(tmp_path / "s"))
    work.build(tmp_path / "s", rows_per_shard=4, overwrite=True)
    with pytest.raises(StoreError, match="another store has been put there"):
        pickle.loads(data)


class Rows(Dataset):
    def __init__(self, store):
        self.store = store

    def __len__(self):
        return self.store.num_rows

    def __getitem__(self, row):
        return self.store.images([row])[0]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_data_loader_workers(store, method):
    context = multiprocessing.get_context(method)
    loader = DataLoader(Rows(store), batch_size=4, num_workers=1, multiprocessing_context=context)
    assert torch.equal(torch.cat(list(loader)), store.images(range(work.NUM_ROWS)))


def test_threads(store):
    fresh = CounterpartStore.open(store.path)
    wrong = []

    def read(seed):
        generator = torch.Generator().manual_seed(seed)
        for _ in range(50):
            rows = torch.randint(0, work.NUM_ROWS, (9,), generator=generator)
            if not torch.equal(fresh.row_seed(rows), rows * 1000 - 5):
                wrong.append(rows)
            if not torch.equal(
                fresh.images(rows), torch.stack([torch.from_numpy(work.image(row)) for row in rows.tolist()])
            ):
                wrong.append(rows)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_large_reads_in_another_process(tmp_path, method):
    made = torch.randint(0, 256, (12, 3, 512, 512), dtype=torch.uint8)
    arguments = work.arguments(image_shape=(3, 512, 512), rows_per_shard=5)
    with CounterpartWriter(tmp_path / "s", **arguments) as writer:
        for image in made:
            writer.add_row(image, label=0)
    store = CounterpartStore.open(tmp_path / "s")
    rows = torch.tensor([11, 0, 7, 3, 9, 3, 1])
    assert torch.equal(store.images(rows), made[rows])
    context = multiprocessing.get_context(method)
    with context.Pool(1) as pool:
        assert pool.apply_async(_sum_of_images, (store, rows)).get(timeout=60) == int(made[rows].sum())


def _sum_of_images(store, rows):
    return int(store.images(rows).numpy().sum())


def test_more_shards_than_open_files(tmp_path):
    import resource

    with CounterpartWriter(tmp_path / "s", **work.arguments(rows_per_shard=1), auto_flush=False) as writer:
        for row in range(120):
            writer.add_row(work.image(row), label=0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    try:
        images = CounterpartStore.open(tmp_path / "s").images(range(120))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert np.array_equal(images[119].numpy(), work.image(119))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dc.CounterpartStore:
    return write_store(tmp_path_factory.mktemp("store") / "s")


def test_the_given_samples_keep_their_rows_and_the_others_have_none(written: dc.CounterpartStore) -> None:
    part = [23, 2, 3, 2]
    restricted = written.restricted_to(part)
    for sample in range(NUM_SAMPLES):
        if sample in part:
            assert torch.equal(restricted.rows(sample), written.rows(sample))
            assert torch.equal(restricted.similarities(sample), written.similarities(sample))
        else:
            assert len(restricted.rows(sample)) == 0
    assert restricted.num_pairs == sum(COUNTS[sample] for sample in set(part))
    assert restricted.coverage == 3 / NUM_SAMPLES
    assert restricted.num_rows == written.num_rows
    assert written.num_pairs == sum(COUNTS)  # itself unchanged
    restricted.verify()


def test_it_is_the_same_after_a_trip_to_another_process(written: dc.CounterpartStore) -> None:
    restricted = written.restricted_to(np.array([1, 3])).restricted_to(torch.tensor([3, 5]))
    again = pickle.loads(pickle.dumps(restricted))
    assert torch.equal(again.pair_ptr, restricted.pair_ptr)
    assert [len(again.rows(sample)) > 0 for sample in (1, 3, 5)] == [False, True, False]


@pytest.mark.parametrize("wrong", [[-1], [NUM_SAMPLES], [0, 99]])
def test_a_sample_outside_is_refused(written: dc.CounterpartStore, wrong: list[int]) -> None:
    with pytest.raises(StoreError, match=rf"sample {wrong[-1]} is outside the store's {NUM_SAMPLES} samples"):
        written.restricted_to(wrong)


@pytest.mark.parametrize("part", [[], range(0, NUM_SAMPLES, 2)])
def test_the_transform_mixes_the_part_alone(written: dc.CounterpartStore, part: list[int]) -> None:
    restricted = written.restricted_to(list(part))
    index = torch.arange(NUM_SAMPLES)
    images = torch.rand(NUM_SAMPLES, *SHAPE)
    whole, some = (dc.DiffCoreMix(which, seed=3)(images, index) for which in (written, restricted))
    for sample in range(NUM_SAMPLES):
        assert torch.equal(some[sample], whole[sample] if sample in part else images[sample])


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
