"""Reading shards: mapped and by position alike, rows checked when first read, files that change noticed."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffcore_gpu.errors import StoreError
from diffcore_gpu.store import CounterpartStore, CounterpartWriter
from tests.store import work

READINGS = ["map", "pread"]


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return work.build(tmp_path_factory.mktemp("stores") / "sound").path


@pytest.fixture
def path(tmp_path, sound):
    return shutil.copytree(sound, tmp_path / "s")


def shard_of(store, row):
    """The file of the shard that holds a row."""
    begin = 0
    for shard in store.manifest.shards:
        if row < begin + shard.rows:
            return store.path / shard.name
        begin += shard.rows
    raise AssertionError(row)


def flip(path, at=4100):
    """Change one byte where it stands, as a bad disk does: same size, same time."""
    status = path.stat()
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    with path.open("r+b") as file:
        file.write(raw)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@given(st.lists(st.integers(0, work.NUM_ROWS - 1), max_size=40))
def test_every_way_of_reading_gives_the_same_images(sound, rows):
    expected = torch.stack([torch.from_numpy(work.image(row)) for row in rows]) if rows else None
    for reading in READINGS:
        for verify in (None, "lazy"):
            images = CounterpartStore.open(sound, reading=reading, verify=verify).images(rows)
            assert images.shape == (len(rows), *work.SHAPE)
            assert expected is None or torch.equal(images, expected)


def test_what_was_asked_for_is_kept(sound):
    for reading in READINGS:
        for verify in (None, "lazy"):
            store = CounterpartStore.open(sound, reading=reading, verify=verify)
            for same in (store, pickle.loads(pickle.dumps(store)), store.restricted_to([1])):
                assert same.reading == reading
                assert same.is_mapped == (reading == "map" and verify is None)
                assert torch.equal(same.image(7), torch.from_numpy(work.image(7)))
    with pytest.raises(ValueError, match="reading must be"):
        CounterpartStore.open(sound, reading="mmap")
    with pytest.raises(ValueError, match="verify must be"):
        CounterpartStore.open(sound, verify=True)
    with pytest.raises(StoreError, match="not mapped into memory"):
        CounterpartStore.open(sound, reading="pread").image_shards  # noqa: B018


@pytest.mark.parametrize("reading", READINGS)
class TestChanges:
    def test_a_damaged_row_is_noticed_when_it_is_first_read(self, path, reading):
        store = CounterpartStore.open(path, reading=reading, verify="lazy")
        damaged = shard_of(store, 5)
        flip(damaged)
        assert torch.equal(store.images([4])[0], torch.from_numpy(work.image(4)))
        for _ in range(2):
            with pytest.raises(StoreError, match=rf"{damaged.name}: damaged: row 5 of .* is not the image"):
                store.images([4, 5])
        assert torch.equal(store.images([6])[0], torch.from_numpy(work.image(6)))

    def test_cut_short(self, path, reading):
        store = CounterpartStore.open(path, reading=reading)
        store.images([5])
        os.truncate(shard_of(store, 5), 4200)
        for read in (lambda: store.images([5]), store.require_unchanged):
            with pytest.raises(StoreError, match=rf"{shard_of(store, 5).name}: has changed .*4200 bytes"):
                read()

    def test_overwritten_in_place(self, path, reading):
        store = CounterpartStore.open(path, reading=reading)
        store.images([5])
        shard = shard_of(store, 5)
        shard.write_bytes(bytes(shard.stat().st_size))
        with pytest.raises(StoreError, match=rf"{shard.name}: has changed .*its content is another"):
            store.images([5])

    def test_touched_or_put_back_is_no_change(self, path, reading):
        store = CounterpartStore.open(path, reading=reading)
        shard = shard_of(store, 5)
        os.utime(shard, (1, 1))
        assert torch.equal(store.images([5])[0], torch.from_numpy(work.image(5)))
        shutil.copy(shard, path / "copy")
        (path / "copy").replace(shard)
        assert torch.equal(store.images([6])[0], torch.from_numpy(work.image(6)))
        store.require_unchanged()

    def test_another_store_in_its_place(self, path, reading):
        """Columns, pairs and images are of the store that was opened, or an error says why not."""
        store = CounterpartStore.open(path, reading=reading)
        data, pairs = pickle.dumps(store), store.pair_row.clone()
        with CounterpartWriter(path, **work.arguments(rows_per_shard=4), overwrite=True) as writer:
            for row in range(work.NUM_ROWS):
                writer.add_row(work.image(row + 100), label=row % 3, seed=-row)
        with pytest.raises(StoreError, match=r"cannot be read"):
            store.images([5])
        with pytest.raises(StoreError, match=r"rows-.*: missing"):
            store.row_seed()
        assert torch.equal(store.pair_row, pairs)
        with pytest.raises(StoreError, match="another store has been put there"):
            pickle.loads(data)

    def test_tables_overwritten_in_place_change_nothing(self, path, reading):
        store = CounterpartStore.open(path, reading=reading)
        pairs = path / store.manifest.pairs.name
        before = store.pair_row.clone()
        pairs.write_bytes(bytes(pairs.stat().st_size))
        assert torch.equal(store.pair_row, before)
        with pytest.raises(StoreError, match=rf"{pairs.name}: "):
            CounterpartStore.open(path)

    def test_a_store_that_grew_meanwhile(self, path, reading):
        store = CounterpartStore.open(path, reading=reading)
        data = pickle.dumps(store)
        with CounterpartWriter(path, **work.arguments(), append=True) as writer:
            work.complete(writer, work.NUM_ROWS + 9)
        grown = CounterpartStore.open(path, reading=reading)
        grown.verify()
        assert grown.num_rows == work.NUM_ROWS + 9
        for old in (store, pickle.loads(data)):
            assert old.num_rows == work.NUM_ROWS
            assert torch.equal(old.row_seed(), grown.row_seed()[: work.NUM_ROWS])
            assert torch.equal(old.images(range(work.NUM_ROWS)), grown.images(range(work.NUM_ROWS)))
            assert old.num_pairs < grown.num_pairs


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_more_shards_than_open_files(tmp_path):
    with CounterpartWriter(tmp_path / "s", **work.arguments(rows_per_shard=1)) as writer:
        for row in range(150):
            writer.add_row(work.image(row), label=row % 3)
    store = CounterpartStore.open(tmp_path / "s", reading="pread")
    before = open_files()
    rows = torch.randperm(150, generator=torch.Generator().manual_seed(1)).tolist() * 2
    for row, image in zip(rows, store.images(rows), strict=True):
        assert torch.equal(image, torch.from_numpy(work.image(row)))
    assert open_files() <= before + 64
    del store
    assert open_files() == before


def test_version_1_has_no_digests():
    path = Path(__file__).parent / "version1"
    for reading in READINGS:
        store = CounterpartStore.open(path, reading=reading)
        store.verify()
        assert torch.equal(store.images([7])[0], torch.from_numpy(work.image(7)))
        assert store.row_columns == ("label", "seed", "prompt", "attempt")
    with pytest.raises(StoreError, match="version 1, which has no digests"):
        CounterpartStore.open(path, verify="lazy")
