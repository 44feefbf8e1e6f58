"""`open(verify="lazy")`: a row is checked when it is first read, whoever reads it, and once among all processes."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import diffcore_gpu as dc
from diffcore_gpu.store import shard_reader
from tests.stores import NUM_SAMPLES, SHAPE, open_bound, write_store

ROW = 13


@pytest.fixture(params=["map", "pread", "jpeg"])
def opening(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    codec = "jpeg" if request.param == "jpeg" else "raw"
    write_store(tmp_path / "store", codec=codec)
    return {"path": tmp_path / "store", "reading": "map" if request.param == "map" else "pread", "verify": "lazy"}


def damage(path: Path) -> str:
    """Another byte in a row, which nothing shows but its digest: size and time are what they were. The shard's name."""
    store = dc.CounterpartStore.open(path, reading="pread")
    shard = store.path / store.manifest.shards[1].name
    data, before = bytearray(shard.read_bytes()), shard.stat()
    at = data.index(store.row_bytes([ROW])[0]) + 60
    data[at] ^= 1
    shard.write_bytes(data)
    os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns))
    return shard.name


def refused(shard: str) -> Any:
    return pytest.raises(dc.StoreError, match=rf"{re.escape(shard)}: damaged: row {ROW} .*is not the image")


def test_images(opening: dict[str, Any]) -> None:
    shard = damage(opening["path"])
    store = open_bound(**opening)
    store.images([ROW - 1, ROW + 1])
    with refused(shard):
        store.images([ROW - 1, ROW, ROW + 1])
    with refused(shard):
        store.image(ROW)
    with refused(shard):
        pickle.loads(pickle.dumps(store)).images(ROW)


def mixed(opening: dict[str, Any], **settings: Any) -> None:
    mix = dc.DiffCoreMix(open_bound(**opening), pixel_prob=1.0, **settings)
    for _ in range(20):  # every row of every sample is drawn
        mix(torch.rand(NUM_SAMPLES, *SHAPE), torch.arange(NUM_SAMPLES))


def test_the_transform_on_the_cpu(opening: dict[str, Any]) -> None:
    mixed(opening)
    shard = damage(opening["path"])
    with refused(shard):
        mixed(opening)
    with refused(shard):
        mixed(opening, residency="device")


def prefetched(opening: dict[str, Any], workers: int = 0, context: str | None = None) -> None:
    class Samples(Dataset[Any]):
        def __len__(self) -> int:
            return NUM_SAMPLES

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return torch.zeros(SHAPE), index

    mix = dc.DiffCoreMix(open_bound(**opening), pixel_prob=1.0)
    loader = DataLoader(Samples(), batch_size=8, num_workers=workers, multiprocessing_context=context)
    for _ in range(20):
        for images, index in dc.PrefetchLoader(loader, mix):
            mix(images, index)


def test_a_prefetch_loader(opening: dict[str, Any]) -> None:
    prefetched(opening)
    shard = damage(opening["path"])
    with refused(shard):
        prefetched(opening)
    with refused(shard):
        prefetched(opening, 1, "fork")


class Rows(Dataset[Any]):
    """Rows of a store, read by the workers, and how often one was hashed."""

    def __init__(self, store: dc.CounterpartStore) -> None:
        self.store = store

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        hashed = 0

        def counting(data: Any) -> int:
            nonlocal hashed
            hashed += 1
            return digest_of(data)

        digest_of = shard_reader.digest_of
        shard_reader.digest_of = counting
        try:
            return self.store.images(row)[0], hashed
        finally:
            shard_reader.digest_of = digest_of


@pytest.mark.parametrize(
    "context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)]
)  # processes that begin anew take seconds
def test_workers(opening: dict[str, Any], context: str) -> None:
    dataset = Rows(open_bound(**opening))
    loader = DataLoader(dataset, batch_size=6, num_workers=2, multiprocessing_context=context)
    checked = [int(sum(hashed.sum() for _, hashed in loader)) for _ in range(2)]
    assert checked == [len(dataset), 0]
    shard = damage(opening["path"])
    loader = DataLoader(Rows(open_bound(**opening)), batch_size=6, num_workers=2, multiprocessing_context=context)
    with refused(shard):
        list(loader)


def test_what_was_checked_is_not_believed_of_a_pickle(opening: dict[str, Any]) -> None:
    store = open_bound(**opening)
    store.images(range(len(store)))
    kept = pickle.dumps(store)
    shard = damage(opening["path"])
    with refused(shard):
        pickle.loads(kept).images(ROW)
