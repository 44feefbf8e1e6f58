"""A store behind a URL, opened: what is fetched when, in this process and in others, and what may change meanwhile."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import diffcore_gpu as dc
from diffcore_gpu.errors import StoreError
from diffcore_gpu.store import CounterpartStore
from diffcore_gpu.store.remote import files
from diffcore_gpu.store.remote.cache import FileCache
from tests.store import work
from tests.store.remote.servers import Fault, FileServer, serving
from tests.stores import NUM_SAMPLES, SHAPE, write_store

pytest.importorskip("aiohttp", reason="the extra remote brings it")

VERSION_1 = Path(__file__).parents[1] / "version1"


@pytest.fixture
def local(tmp_path: Path) -> CounterpartStore:
    return work.build(tmp_path / "served" / "store")


@pytest.fixture
def server(local: CounterpartStore):
    with serving(local.path.parent) as running:
        yield running


@pytest.fixture
def url(server: FileServer) -> str:
    return f"{server.url}/store"


@pytest.fixture
def not_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "AHEAD", 0)


def shards_asked_for(server: FileServer) -> list[str]:
    return [path.rpartition("/")[2][:18] for path, _ in server.gets if "counterparts-" in path]


def rows_are_right(store: CounterpartStore, rows: range) -> bool:
    images = store.images(rows).numpy()
    return all(np.array_equal(image, work.image(row)) for row, image in zip(rows, images, strict=True))


def test_opening_costs_store_json_and_the_pairs(server, url, local):
    store = CounterpartStore.open(url)
    assert [path for path, _ in server.gets] == ["/store/store.json", f"/store/{local.manifest.pairs.name}"]
    assert store.checksum == local.checksum
    assert store.coverage == local.coverage
    assert repr(store).startswith(f"CounterpartStore('{url}': 23 rows of 3×4×6")
    assert store.reading == "pread"
    store.bind([None] * work.NUM_SAMPLES, labels=work.LABELS)
    assert len(server.gets) == 2


def test_a_shard_comes_with_its_first_row(server, url, not_ahead):
    store = CounterpartStore.open(url)
    assert rows_are_right(store, range(6, 9))
    assert shards_asked_for(server) == ["counterparts-00001"]
    assert rows_are_right(store, range(3, 12))
    assert shards_asked_for(server) == [f"counterparts-0000{number}" for number in (1, 0, 2)]


def test_the_next_shards_come_by_themselves(server, url, local):
    cache = FileCache()
    store = CounterpartStore.open(url)
    assert rows_are_right(store, range(5, 6))
    until = time.monotonic() + 30
    while not all(cache.holds(shard) for shard in local.manifest.shards[1:4]):
        assert time.monotonic() < until
        time.sleep(0.01)
    assert sorted(shards_asked_for(server)) == [f"counterparts-0000{number}" for number in (1, 2, 3)]


def test_nothing_comes_by_itself_where_there_is_little_room(server, url, local):
    largest = max(file.size for file in local.manifest.files)
    store = CounterpartStore.open(url, cache_bytes=2 * largest)
    assert rows_are_right(store, range(5, 6))
    time.sleep(0.2)
    assert shards_asked_for(server) == ["counterparts-00001"]


def test_a_failure_in_the_background_is_told_where_the_row_is_read(server, url):
    server.faults = [Fault("counterparts-00001", "status", at=403)]
    store = CounterpartStore.open(url)
    assert rows_are_right(store, range(5))
    with pytest.raises(StoreError, match=r"counterparts-00001-.*: access is denied\.$"):
        store.images([5])
    server.faults = []
    assert rows_are_right(store, range(5, 10))


def test_all_of_it_within_a_cache_of_one_shard(server, url, local, tmp_path):
    bound = max(file.size for file in local.manifest.files)
    store = CounterpartStore.open(url, cache_bytes=bound)
    store.verify()
    assert rows_are_right(store, range(work.NUM_ROWS))
    held = [path for path in (tmp_path / "cache" / "files").iterdir() if ".stamp" not in path.name]
    assert sum(path.stat().st_size for path in held) <= bound


def test_verify_fetches_what_is_damaged_again(server, url, local, tmp_path):
    store = CounterpartStore.open(url)
    store.verify()
    path = tmp_path / "cache" / "files" / local.manifest.shards[2].checksum
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[4100] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # so that nothing but its hash shows it
    CounterpartStore.open(url).verify()
    assert shards_asked_for(server).count("counterparts-00002") == 2


def test_rows_may_be_checked_as_they_are_read(url):
    assert rows_are_right(CounterpartStore.open(url, verify="lazy"), range(work.NUM_ROWS))


def test_a_url_is_no_path():
    with pytest.raises(StoreError, match=r"there is no such folder; a URL is given as a string\.$"):
        CounterpartStore.open(Path("s3://bucket/store"))


def test_it_is_not_mapped(url):
    with pytest.raises(StoreError, match="only raw shards in a folder can be mapped"):
        CounterpartStore.open(url, reading="map")


def test_it_is_pickled_with_all_it_needs(server, url, tmp_path):
    store = CounterpartStore.open(url, cache=tmp_path / "elsewhere", cache_bytes=1 << 30)
    store.images(range(work.NUM_ROWS))
    pickled = pickle.dumps(store.restricted_to([0, 1]))
    server.faults = [Fault("", "status", at=500)]
    again = pickle.loads(pickled)  # no server: all of it is in the cache
    assert rows_are_right(again, range(work.NUM_ROWS))
    assert int((again.pair_ptr.diff() > 0).sum()) == 2
    assert not (tmp_path / "cache").exists()


def test_another_store_put_there_meanwhile(server, url, local, tmp_path):
    store = CounterpartStore.open(url)
    pickled = pickle.dumps(store)
    other = work.build(tmp_path / "other", rows_per_shard=4, metadata={"other": 1})
    shutil.rmtree(local.path)
    shutil.copytree(other.path, local.path)
    with pytest.raises(StoreError, match=r"there is no such file; another store may have been put there since"):
        store.images([0])
    with pytest.raises(StoreError, match="another store may have been put there since"):
        pickle.loads(pickled).images([0])
    assert CounterpartStore.open(url).checksum == other.checksum


def test_a_store_that_is_replaced_while_it_is_opened(server, url, local, tmp_path, monkeypatch):
    other = work.build(tmp_path / "other", rows_per_shard=4, metadata={"other": 1}, file_names=work.NAMES[::-1])
    fetch = files.fetch_manifest

    def replace(folder: object) -> object:
        found = fetch(folder)
        shutil.rmtree(local.path)
        shutil.copytree(other.path, local.path)
        return found

    monkeypatch.setattr(files, "fetch_manifest", replace)
    assert CounterpartStore.open(url).checksum == other.checksum


def test_a_manifest_that_was_edited(server, url, local):
    path = local.path / "store.json"
    path.write_text(path.read_text().replace('"guidance": 7.5', '"guidance": 8.5'))
    with pytest.raises(StoreError, match=rf"^{url}/store.json: damaged or edited"):
        CounterpartStore.open(url)


def test_a_signed_address(server, url):
    store = CounterpartStore.open(f"{url}?sig=SECRET%2F")
    assert rows_are_right(store, range(5))
    assert "SECRET" not in f"{store!r} {store.path} {store.path!r}"
    assert all(path.endswith("?sig=SECRET%2F") for path, _ in server.gets)
    server.faults = [Fault("counterparts-00004", "status", at=500)]
    with pytest.raises(StoreError) as caught:
        store.images([22])
    assert "SECRET" not in str(caught.value)


def test_version_1(server):
    shutil.copytree(VERSION_1, server.folder / "old")
    store, here = CounterpartStore.open(f"{server.url}/old"), CounterpartStore.open(VERSION_1)
    assert shards_asked_for(server) == []
    rows = range(here.num_rows)
    assert torch.equal(store.images(rows), here.images(rows))
    assert torch.equal(store.row_seed(), here.row_seed())
    store.verify()


@pytest.mark.parametrize("codec", ["jpeg", "webp"])
def test_encoded_shards(server, codec):
    here = write_store(server.folder / codec, codec=codec)
    there = CounterpartStore.open(f"{server.url}/{codec}")
    assert torch.equal(there.images(range(here.num_rows)), here.images(range(here.num_rows)))
    there.verify()


class Rows(Dataset):
    def __init__(self, store: CounterpartStore) -> None:
        self.store = store

    def __len__(self) -> int:
        return work.NUM_ROWS

    def __getitem__(self, row: int) -> torch.Tensor:
        return self.store.images([row])[0]


@pytest.mark.parametrize(
    "context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)]
)  # processes that begin anew take seconds
def test_in_the_workers_of_a_loader(server, url, context):
    store = CounterpartStore.open(url)
    store.images([0])  # so that a fork finds connections and threads that it must not use
    loader = DataLoader(Rows(store), batch_size=5, num_workers=2, multiprocessing_context=context)
    images = torch.cat(list(loader)).numpy()
    assert all(np.array_equal(image, work.image(row)) for row, image in enumerate(images))
    assert sorted(set(shards_asked_for(server))) == sorted(shards_asked_for(server))


def _read(url: str, cache_bytes: int, seed: int, results) -> None:
    store = CounterpartStore.open(url, cache_bytes=cache_bytes)
    rows = np.random.default_rng(seed).permutation(work.NUM_ROWS)
    right = all(np.array_equal(store.images([row])[0].numpy(), work.image(int(row))) for row in np.tile(rows, 3))
    results.put(right)


def test_processes_that_take_each_other_room(server, url, local):
    """Two files fit: what one process reads, the other removes; nobody reads anything else than what was written."""
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    bound = 2 * max(file.size for file in local.manifest.files)
    workers = [context.Process(target=_read, args=(url, bound, seed, results)) for seed in range(3)]
    for worker in workers:
        worker.start()
    assert [results.get(timeout=20) for _ in workers] == [True] * 3
    for worker in workers:
        worker.join(60)
    assert len(server.gets) > 3 + 7


def test_from_many_threads(server, url):
    store = CounterpartStore.open(url)
    right: list[bool] = []

    def read(first: int) -> None:
        right.extend(rows_are_right(store, range(row, row + 1)) for row in range(first, work.NUM_ROWS))

    threads = [threading.Thread(target=read, args=(first,)) for first in (0, 3, 8, 15)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert right == [True] * (23 + 20 + 15 + 8)
    assert len(set(shards_asked_for(server))) == len(shards_asked_for(server)) == 5


@pytest.mark.parametrize("geometry", [False, True])
def test_it_is_mixed_as_a_store_that_is_here(tmp_path, geometry):
    here = write_store(tmp_path / "served" / "mixed")
    crop = dc.RandomResizedCropMirror((16, 16)) if geometry else None
    dataset, labels = [None] * NUM_SAMPLES, [sample % 2 for sample in range(NUM_SAMPLES)]
    here.bind(dataset, labels=labels)
    images = torch.randint(0, 256, (8, *SHAPE), dtype=torch.uint8)
    index = torch.arange(8)
    with serving(tmp_path / "served") as server:
        there = CounterpartStore.open(f"{server.url}/mixed").bind(dataset, labels=labels)
        expected = dc.DiffCoreMix(here, p=1.0, seed=3, geometry=crop)(images, index)
        mix = dc.DiffCoreMix(there, p=1.0, seed=3, geometry=crop, residency="device")
        assert torch.equal(mix(images, index), expected)
        mix = dc.DiffCoreMix(there, p=1.0, seed=3, geometry=crop)
        batches = [(mix(batch, rows)) for batch, rows in dc.PrefetchLoader([(images, index)], mix, "cpu")]
        assert torch.equal(batches[0], expected)
