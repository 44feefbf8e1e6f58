"""Where the counterparts live, and what is refused."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path

import pytest
import torch

from diffcore_gpu.errors import StoreError
from diffcore_gpu.store import CounterpartStore
from diffcore_gpu.store import residency as residency_module
from diffcore_gpu.store.residency import ResidentStore, image_bytes
from tests.stores import SHAPE, write_store

CPU = torch.device("cpu")


@pytest.fixture
def store(tmp_path: Path) -> CounterpartStore:
    return write_store(tmp_path / "store")


@pytest.mark.parametrize(
    ("asked", "residency", "shards"),
    [("auto", "disk", 4), ("disk", "disk", 4), ("host", "host", 4), ("device", "device", 1)],
)
def test_on_the_cpu(store: CounterpartStore, asked: str, residency: str, shards: int) -> None:
    resident = ResidentStore(store, CPU, asked)  # type: ignore[arg-type]
    assert (resident.residency, len(resident.shards), resident.prefetched) == (residency, shards, False)
    assert torch.equal(torch.cat(resident.shards), store.images(range(store.num_rows)))
    assert torch.equal(resident.pairs.pair_row, store.pair_row)
    mapped = {shard.data_ptr() for shard in store.image_shards}
    assert {shard.data_ptr() for shard in resident.shards} <= mapped or residency == "device"


def test_another_memory_format_holds_the_same_rows(store: CounterpartStore) -> None:
    resident = ResidentStore(store, CPU, "device")
    other = resident.laid_out(torch.channels_last)
    assert other.shards[0].is_contiguous(memory_format=torch.channels_last)
    assert resident.shards[0].is_contiguous()
    assert torch.equal(other.shards[0], resident.shards[0])
    assert other.pairs is resident.pairs


def test_size_of_the_images(store: CounterpartStore) -> None:
    assert image_bytes(store) == store.num_rows * SHAPE[0] * SHAPE[1] * SHAPE[2]


@pytest.mark.parametrize("asked", ["auto", "device", "disk", "host"])
def test_copies_are_shared_and_pickles_open_anew(store: CounterpartStore, asked: str) -> None:
    resident = ResidentStore(store, CPU, asked)  # type: ignore[arg-type]
    assert copy.deepcopy(resident) is resident
    data = pickle.dumps(resident)
    assert len(data) < 2000
    assert torch.equal(torch.cat(pickle.loads(data).shards), torch.cat(resident.shards))


def test_auto_on_a_gpu_is_decided_by_its_free_memory(store: CounterpartStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU: what is copied there is replaced, the decision is not."""
    gpu = torch.device("cuda", 0)
    needed = image_bytes(store)
    monkeypatch.setattr(residency_module, "_copy_to", lambda store, device, decoder: torch.zeros(1))
    monkeypatch.setattr(residency_module.Pairs, "__new__", lambda cls, *pairs: pairs)
    monkeypatch.setattr(torch.Tensor, "to", lambda self, device: self)
    for free, residency in (
        (needed + residency_module._RESERVE, "device"),
        (needed + residency_module._RESERVE - 1, "disk"),
    ):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 1 << 40))
        resident = ResidentStore(store, gpu)
        assert (resident.residency, resident.prefetched, len(resident.shards)) == (
            residency, residency == "disk", int(residency == "device"),
        )  # fmt: skip


@pytest.mark.parametrize("asked", ["disk", "host"])
def test_on_a_gpu_files_need_a_prefetcher_and_no_gpu_memory(store: CounterpartStore, asked: str) -> None:
    resident = ResidentStore(store, torch.device("cuda", 0), asked)  # type: ignore[arg-type]
    assert resident.prefetched
    assert resident.shards == []
    assert resident.pairs.pair_ptr.device == CPU


def test_device_refuses_what_does_not_fit(store: CounterpartStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1 << 20, 1 << 40))
    with pytest.raises(
        StoreError, match=r'need 0\.0 GiB in the memory of cuda:0.*use residency="disk" with a Prefetch'
    ):
        ResidentStore(store, torch.device("cuda", 0), "device")


def test_host_refuses_what_is_larger_than_memory(store: CounterpartStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: 10)
    with pytest.raises(StoreError, match=r'GiB of host memory, but this machine has .*; use residency="disk"'):
        ResidentStore(store, CPU, "host")


def test_host_names_a_file_that_is_gone(store: CounterpartStore) -> None:
    path = store.path / store.manifest.shards[1].name
    path.unlink()
    with pytest.raises(StoreError, match=f"{path.name}: cannot be read: No such file"):
        ResidentStore(store, CPU, "host")


def test_unknown_words(store: CounterpartStore) -> None:
    with pytest.raises(ValueError, match="residency must be one of auto, device, disk, host, got 'cloud'"):
        ResidentStore(store, CPU, "cloud")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not on meta"):
        ResidentStore(store, torch.device("meta"))


def test_pairs_that_lead_out_of_the_store_are_refused_before_a_kernel_follows_them(store: CounterpartStore) -> None:
    damaged = CounterpartStore.open(store.path)
    damaged.pair_row = damaged.pair_row.clone()
    damaged.pair_row[1] = damaged.num_rows
    with pytest.raises(StoreError, match="pair 1 names row"):
        ResidentStore(damaged, torch.device("cpu"))
    damaged = CounterpartStore.open(store.path)
    damaged.pair_ptr = damaged.pair_ptr.clone()
    damaged.pair_ptr[2] = 10**6
    with pytest.raises(StoreError, match="pair_ptr does not rise"):
        ResidentStore(damaged, torch.device("cpu"))
