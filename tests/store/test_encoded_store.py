"""Stores of encoded images: what is written, what is read, and what damage leads to."""

from __future__ import annotations

import json
import multiprocessing
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch.utils.data import DataLoader, Dataset

from diffcore_gpu.errors import StoreError
from diffcore_gpu.store import CounterpartStore, CounterpartWriter, shard_reader
from diffcore_gpu.store.codecs import CODECS, codec_named
from diffcore_gpu.store.manifest import content_checksum
from tests.stores import SHAPE, write_store

SETTINGS = ["raw", "jpeg", "jpeg:80", "webp"]


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    return {setting: write_store(folder / setting.replace(":", "-"), codec=setting) for setting in SETTINGS}


def images_of(store, **options):
    return CounterpartStore.open(store.path, **options).images(range(store.num_rows))


@pytest.fixture(params=SETTINGS[1:])
def encoded(request, stores):
    return stores[request.param], codec_named(request.param)


def test_images_are_those_that_the_codec_gives_back(stores, encoded):
    store, codec = encoded
    originals = stores["raw"].images(range(store.num_rows)).numpy()
    assert np.array_equal(images_of(store), np.stack([codec.seen(image) for image in originals]))
    assert codec.lossless == bool(np.array_equal(images_of(store), originals))


def test_columns_and_pairs_are_those_of_a_raw_store(stores, encoded):
    store, _ = encoded
    raw = stores["raw"]
    for name in ("label", "seed", "prompt", "attempt", "source"):
        assert torch.equal(store.row_column(name), raw.row_column(name))
    assert torch.equal(store.pair_row, raw.pair_row)
    assert not torch.equal(store.row_column("digest"), raw.row_column("digest"))


def test_rows_in_any_order(encoded):
    store, _ = encoded
    every = store.images(range(store.num_rows))
    rows = [35, 0, 9, 10, 0, 20, 35, 19]
    out = torch.empty(len(rows), *SHAPE, dtype=torch.uint8)
    assert store.images(rows, out=out) is out
    assert torch.equal(out, every[rows])
    assert torch.equal(store.image(12), every[12])
    assert store.images([]).shape == (0, *SHAPE)


def test_bytes_of_rows(stores, encoded):
    store, codec = encoded
    originals = stores["raw"].images([30, 4]).numpy()
    assert store.row_bytes([30, 4]) == [codec.encode(image) for image in originals]
    assert stores["raw"].row_bytes([30, 4]) == [image.tobytes() for image in originals]
    assert images_of(stores["raw"], reading="pread").numpy().tobytes() == b"".join(
        stores["raw"].row_bytes(range(stores["raw"].num_rows))
    )
    assert store.row_bytes([]) == stores["raw"].row_bytes([]) == []


def test_any_safetensors_reader_finds_the_images(encoded):
    store, codec = encoded
    shard = store.manifest.shards[1]
    assert shard.codec == codec.name
    with safe_open(store.path / shard.name, "pt") as file:
        assert sorted(file.keys()) == ["data", "offset"]
        data, offset = file.get_tensor("data").numpy(), file.get_tensor("offset").tolist()
    assert len(offset) == shard.rows + 1
    assert [data[a:b].tobytes() for a, b in pairwise(offset)] == store.row_bytes(range(10, 20))


def test_it_is_read_by_position(encoded):
    store, _ = encoded
    assert store.reading == "pread"
    assert not store.is_mapped
    with pytest.raises(
        StoreError, match=r"is not mapped into memory, so it has no image_shards; use images\(rows\)\.$"
    ):
        store.image_shards  # noqa: B018  a property that raises
    with pytest.raises(StoreError, match="only raw shards in a folder can be mapped"):
        CounterpartStore.open(store.path, reading="map")


def test_it_is_verified(encoded):
    store, _ = encoded
    store.verify()
    assert torch.equal(images_of(store, verify="lazy"), images_of(store))


def test_an_image_encoded_elsewhere_gives_the_same_store(tmp_path, encoded):
    store, codec = encoded
    raw = write_store(tmp_path / "raw")
    with CounterpartWriter(
        tmp_path / "again",
        num_samples=raw.num_samples,
        image_shape=SHAPE,
        class_names=raw.class_names,
        labels=raw.labels,
        rows_per_shard=10,
        codec=codec.setting,
    ) as writer:
        for row, image in enumerate(raw.images(range(raw.num_rows)).numpy()):
            label, seed = int(raw.row_label(row)), int(raw.row_seed(row))
            assert writer.add_row(writer.codec.encoded(image), label=label, seed=seed) == row
    again = CounterpartStore.open(tmp_path / "again")
    assert [shard.checksum for shard in again.manifest.shards] == [shard.checksum for shard in store.manifest.shards]


def make_writer(path, **options):
    arguments = {"num_samples": 4, "image_shape": SHAPE, "class_names": ["a"], "labels": [0] * 4, **options}
    return CounterpartWriter(path, **arguments)


def test_what_a_writer_refuses(tmp_path):
    with pytest.raises(StoreError, match=r"^codec must be raw, jpeg, .* not 'png'\.$"):
        make_writer(tmp_path / "a", codec="png")
    with pytest.raises(StoreError, match="codec jpeg holds images of 1 or 3 channels, not of 4; use codec raw"):
        make_writer(tmp_path / "a", codec="jpeg", image_shape=(4, 8, 8))
    assert not (tmp_path / "a").exists()
    image = np.zeros(SHAPE, np.uint8)
    with make_writer(tmp_path / "b", codec="jpeg") as writer:
        for other in (codec_named("webp").encoded(image), codec_named("jpeg").encoded(image[:, 1:])):
            with pytest.raises(
                StoreError, match=r"an image of codec \w+ and shape \[.*\] was encoded for another store"
            ):
                writer.add_row(other, label=0)


def test_a_writer_resumes_with_the_same_codec(tmp_path):
    image = np.zeros(SHAPE, np.uint8)
    writer = make_writer(tmp_path, codec="jpeg:90")
    writer.add_row(image, label=0)
    writer.flush()
    writer.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    for other in ("raw", "jpeg", "webp"):
        with pytest.raises(StoreError, match="the argument codec differs"):
            make_writer(tmp_path, codec=other, resume=True)
    with make_writer(tmp_path, codec="jpeg:90", resume=True) as writer:
        assert writer.num_rows == 1
        writer.add_row(image, label=0)
    store = CounterpartStore.open(tmp_path)
    assert torch.equal(store.image(0), store.image(1))
    store.verify()
    for other in ("raw", "webp"):
        with pytest.raises(StoreError, match="the argument codec differs"):
            make_writer(tmp_path, codec=other, resume=True)


def test_shards_of_several_codecs(tmp_path):
    random = np.random.default_rng(3).integers(0, 256, (8, *SHAPE), dtype=np.uint8)
    for number, setting in enumerate(("raw", "jpeg", "webp", "raw")):
        with make_writer(tmp_path, codec=setting, append=number > 0, rows_per_shard=2) as writer:
            for image in random[2 * number : 2 * number + 2]:
                writer.add_row(image, label=0)
    store = CounterpartStore.open(tmp_path)
    assert [shard.codec for shard in store.manifest.shards] == ["raw", "jpeg", "webp", "raw"]
    seen = [codec_named("jpeg").seen(image) if row in (2, 3) else image for row, image in enumerate(random)]
    assert np.array_equal(store.images(range(8)), np.stack(seen))
    store.verify()


def test_an_empty_store(tmp_path):
    with make_writer(tmp_path, codec="jpeg"):
        pass
    store = CounterpartStore.open(tmp_path)
    assert store.images([]).shape == (0, *SHAPE)
    store.verify()


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 2**31)), min_size=1, max_size=9), st.integers(1, 4))
@settings(max_examples=15)
def test_rows_of_any_length(tmp_path_factory, drawn, rows_per_shard):
    """Images that take few bytes and many, in shards of any number of rows."""
    folder = tmp_path_factory.mktemp("any")
    originals = [np.random.default_rng(seed).integers(0, 4 * levels, SHAPE, dtype=np.uint8) for levels, seed in drawn]
    with make_writer(folder, codec="webp", rows_per_shard=rows_per_shard) as writer:
        for image in originals:
            writer.add_row(image, label=0)
    store = CounterpartStore.open(folder, verify="lazy")
    assert np.array_equal(store.images(range(len(originals))), np.stack(originals))


# Damage


def write_damaged(tmp_path, change, codec="jpeg"):
    """A store in which `change` was done to a shard, and its checksum was mended: only decoding can notice."""
    store = write_store(tmp_path / "store", codec=codec)
    path, entry = store.path / store.manifest.shards[1].name, store.manifest.shards[1]
    raw = bytearray(path.read_bytes())
    change(raw, 4096)
    path.write_bytes(raw)
    manifest = json.loads((store.path / "store.json").read_text())
    assert manifest["shards"][1]["name"] == entry.name
    manifest["checksum"] = content_checksum(manifest)
    (store.path / "store.json").write_text(json.dumps(manifest))
    return store.path


@pytest.mark.parametrize("codec", ["jpeg", "webp"])
def test_a_damaged_row_is_named(tmp_path, codec):
    def change(raw, begin):
        raw[begin : begin + 8] = b"\0" * 8

    path = write_damaged(tmp_path, change, codec)
    store = CounterpartStore.open(path)
    store.images([9, 11, 12])  # the others are sound
    with pytest.raises(
        StoreError, match=r"counterparts-00001-\w+\.safetensors: damaged: row 10 cannot be decoded: .*\.$"
    ):
        store.images(range(store.num_rows))
    with pytest.raises(StoreError, match="row 10"):
        CounterpartStore.open(path, verify="lazy").images([3, 10])
    with pytest.raises(StoreError, match=r"damaged: its SHA-256"):
        store.verify()


def test_damage_that_can_be_decoded_is_found_by_the_digest(tmp_path):
    def change(raw, begin):
        raw[begin + 6 : begin + 10] = b"XXXX"  # the name JFIF

    path = write_damaged(tmp_path, change)
    CounterpartStore.open(path).image(10)
    with pytest.raises(StoreError, match=r"row 10 of .* is not the image that was written"):
        CounterpartStore.open(path, verify="lazy").image(10)


@pytest.mark.parametrize("place", [0, 4, 10])
def test_offsets_that_lead_astray(tmp_path, place):
    def change(raw, begin):
        offset = len(raw) - 8 * (11 - place)
        raw[offset : offset + 8] = (1 << 40).to_bytes(8, "little")

    path = write_damaged(tmp_path, change)
    with pytest.raises(StoreError, match="its offsets do not rise from 0 to the end of its data"):
        CounterpartStore.open(path).image(10)


def test_an_unknown_codec(tmp_path):
    store = write_store(tmp_path / "store", codec="jpeg")
    path = store.path / "store.json"
    manifest = json.loads(path.read_text())
    manifest["shards"][0]["codec"] = "avif"
    manifest["checksum"] = content_checksum(manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match=r"has images of codec 'avif', which this version cannot decode: upgrade"):
        CounterpartStore.open(store.path)


def test_a_file_that_is_cut_short(tmp_path):
    store = write_store(tmp_path / "store", codec="jpeg")
    store.images([0, 15])
    for shard in store.manifest.shards:
        path = store.path / shard.name
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(StoreError, match="has changed since the store was opened"):
        store.images([0, 15])


def test_more_shards_than_are_kept_open(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_reader, "_OPEN_FILES", 2)
    monkeypatch.setattr(shard_reader, "_AT_ONCE", 3)
    store = write_store(tmp_path / "store", codec="jpeg", rows_per_shard=2)
    assert len(store.manifest.shards) == 18
    every = store.images(range(store.num_rows))
    rows = torch.randint(store.num_rows, (50,), generator=torch.Generator().manual_seed(0))
    assert torch.equal(store.images(rows), every[rows])
    open_files = [link for link in Path("/proc/self/fd").iterdir() if link.resolve().is_relative_to(store.path)]
    assert len(open_files) <= 2


# Other processes


class Rows(Dataset):
    def __init__(self, store):
        self.store = store

    def __len__(self):
        return self.store.num_rows

    def __getitem__(self, row):
        return self.store.image(row)


@pytest.mark.parametrize(
    "method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)]
)  # processes that begin anew take seconds
def test_in_the_workers_of_a_loader(stores, method):
    for setting in ("jpeg", "webp"):
        store = stores[setting]
        expected = store.images(range(store.num_rows))  # its threads and files are at work before the fork
        loader = DataLoader(Rows(store), 7, num_workers=2, multiprocessing_context=method)
        assert torch.equal(torch.cat(list(loader)), expected)


def _read_in_child(store, queue):
    queue.put(store.images([3]).sum().item())


def test_a_fork_while_a_file_is_opened(stores):
    """The thread that opens it is not in the child, which must not wait for it."""
    store = CounterpartStore.open(stores["jpeg"].path)
    expected = store.images([3]).sum().item()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    with store._reader._lock:
        child = context.Process(target=_read_in_child, args=(store, queue))
        child.start()
    try:
        assert queue.get(timeout=60) == expected
    finally:
        child.kill()
        child.join(30)


def test_the_codecs_of_the_manifest_are_those_of_the_table():
    assert list(CODECS) == ["raw", "jpeg", "webp"]
