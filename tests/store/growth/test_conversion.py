"""Stores written again: of the newest version, or by another codec."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from diffcore_gpu.errors import StoreError
from diffcore_gpu.store import CounterpartStore, convert, prune
from diffcore_gpu.store.provenance import FileContents
from tests.store import work

VERSION_1 = Path(__file__).parents[1] / "version1"


def assert_same(store, other):
    assert torch.equal(store.images(range(store.num_rows)), other.images(range(other.num_rows)))
    for name in ("label", "seed", "attempt"):
        assert torch.equal(store.row_column(name), other.row_column(name))
    assert [store.prompts[k] if k >= 0 else None for k in store.row_prompt()] == [
        other.prompts[k] if k >= 0 else None for k in other.row_prompt()
    ]
    assert torch.equal(store.pair_ptr, other.pair_ptr)
    assert torch.equal(store.pair_row, other.pair_row)
    assert np.array_equal(store.pair_similarity, other.pair_similarity, equal_nan=True)
    assert (store.fingerprint, store.class_names, store.metadata) == (
        other.fingerprint,
        other.class_names,
        other.metadata,
    )


def test_version_1(tmp_path):
    old = CounterpartStore.open(VERSION_1)
    new = convert(VERSION_1, tmp_path / "new")
    new.verify()
    assert (old.manifest.version, new.manifest.version) == (1, 2)
    assert_same(old, new)
    (entry,) = new.manifest.history
    assert entry == {"operation": "convert", "before": old.checksum, "version": 1, "codecs": ["raw"]}
    made = work.build(tmp_path / "made")
    assert new.manifest.shards == made.manifest.shards
    assert new.manifest.rows == made.manifest.rows
    assert new.manifest.pairs == made.manifest.pairs


@pytest.mark.parametrize("at", [4100, 4560])  # in an image, and in a column behind them
def test_damage_in_version_1_is_not_carried_on(tmp_path, at):
    shutil.copytree(VERSION_1, tmp_path / "old")
    shard = next((tmp_path / "old").glob("counterparts-*"))
    raw = bytearray(shard.read_bytes())
    raw[at] ^= 1
    shard.write_bytes(raw)
    with pytest.raises(StoreError, match=rf"{shard.name}: damaged: its SHA-256"):
        convert(tmp_path / "old", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_metadata_name_the_codec_that_there_is(tmp_path):
    store = work.build(tmp_path / "raw", metadata={"codec": "raw", "model": "test"})
    made = convert(store.path, tmp_path / "jpeg", codec="jpeg:90")
    assert (made.metadata["codec"], made.metadata["model"]) == ("jpeg:90", "test")


def test_there_and_back_gives_the_same_shards(tmp_path):
    contents = FileContents.unknown(work.NUM_SAMPLES)
    contents.set([2], [(3, 4)])
    store = work.build(tmp_path / "raw", file_contents=contents)
    webp = convert(store.path, tmp_path / "webp", codec="webp")
    webp.verify()
    assert {shard.codec for shard in webp.manifest.shards} == {"webp"}
    assert_same(store, webp)
    back = convert(webp.path, tmp_path / "back")
    back.verify()
    assert back.manifest.shards == store.manifest.shards
    assert back.manifest.rows == store.manifest.rows
    assert back.manifest.pairs == store.manifest.pairs
    assert back.file_contents.known.tolist() == [2]
    assert [entry["codecs"] for entry in back.manifest.history] == [["raw"], ["webp"]]


def test_the_history_goes_along(tmp_path):
    store = work.build(tmp_path / "store")
    prune(store.path, best=1, compact=True)
    new = convert(store.path, tmp_path / "new")
    assert [entry["operation"] for entry in new.manifest.history] == ["prune", "convert"]
    assert_same(CounterpartStore.open(store.path), new)


class StoppedError(Exception):
    """What ends the work."""


@pytest.mark.parametrize("after", [5, 13, 23])
def test_interrupted_and_done_again(tmp_path, monkeypatch, after):
    monkeypatch.setattr("diffcore_gpu.store.growth.conversion._READ_BYTES", 72)
    store = work.build(tmp_path / "store")
    undisturbed = convert(store.path, tmp_path / "undisturbed")

    def stop(done, total):
        if done == after:
            raise StoppedError

    with pytest.raises(StoppedError):
        convert(store.path, tmp_path / "new", progress=stop)
    again = []
    new = convert(store.path, tmp_path / "new", progress=lambda done, total: again.append((done, total)))
    assert again[0] == (after, 23)
    assert new.checksum == undisturbed.checksum
    assert work.contents(new.path) == work.contents(undisturbed.path)
    convert(store.path, tmp_path / "new", progress=stop)  # nothing is left to do


def test_a_damaged_store_is_not_converted(tmp_path):
    store = work.build(tmp_path / "store")
    shard = store.path / store.manifest.shards[1].name
    data = bytearray(shard.read_bytes())
    data[4096 + 3 * 72] ^= 1
    shard.write_bytes(data)
    with pytest.raises(StoreError, match=r"row 8 of .* is not the image that was written"):
        convert(store.path, tmp_path / "new")
    assert not (tmp_path / "new" / "store.json").exists()


def test_places_that_cannot_be(tmp_path):
    store = work.build(tmp_path / "store")
    with pytest.raises(StoreError, match="is the store to convert; give another folder"):
        convert(store.path, store.path)
    other = work.build(tmp_path / "other", metadata={"model": "another"})
    with pytest.raises(StoreError, match=r"argument .* differs from the one that this store was begun with"):
        convert(store.path, other.path)
    with pytest.raises(StoreError, match="codec"):
        convert(store.path, tmp_path / "new", codec="bmp")
    shutil.copytree(store.path, tmp_path / "copy")
    with pytest.raises(StoreError, match="the argument history differs"):
        convert(store.path, tmp_path / "copy")
