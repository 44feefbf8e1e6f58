"""Stores in object storage: an S3 server, through s3fs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from diffcore_gpu.errors import StoreError
from diffcore_gpu.store import CounterpartStore
from diffcore_gpu.store.remote import transfer
from diffcore_gpu.store.remote.pull import pull
from diffcore_gpu.store.remote.push import push
from tests.store import work
from tests.store.remote.conftest import BUCKET
from tests.store.remote.servers import Fault, serving

URL = f"s3://{BUCKET}/stores/small"


@pytest.fixture
def store(tmp_path: Path) -> CounterpartStore:
    return work.build(tmp_path / "store")


def file_system(options: dict[str, Any]):
    import s3fs

    return s3fs.S3FileSystem(**options, use_listings_cache=False)


def test_there_and_back(store, s3, tmp_path):
    report = push(store.path, URL, storage_options=s3)
    assert set(report.sent) == {file.name for file in store.manifest.files}
    opened = CounterpartStore.open(URL, storage_options=s3)
    assert str(opened.path) == URL
    assert torch.equal(opened.images(range(work.NUM_ROWS)), store.images(range(work.NUM_ROWS)))
    opened.verify()
    pull(URL, tmp_path / "back", storage_options=s3)
    assert work.contents(tmp_path / "back") == work.contents(store.path)


def test_a_second_push_sends_nothing(store, s3):
    push(store.path, URL, storage_options=s3)
    report = push(store.path, URL, storage_options=s3)
    assert (report.sent, report.sent_bytes) == ((), 0)
    assert set(report.present) == {file.name for file in store.manifest.files}


def test_what_is_there_with_other_bytes_is_sent_again(store, s3):
    shard = store.manifest.shards[1]
    fs = file_system(s3)
    fs.pipe_file(f"{BUCKET}/stores/small/{shard.name}", bytes(shard.size))
    fs.pipe_file(f"{BUCKET}/stores/small/{store.manifest.shards[2].name}", b"short")
    report = push(store.path, URL, storage_options=s3)
    assert report.present == ()
    CounterpartStore.open(URL, storage_options=s3).verify()


def test_a_file_larger_than_a_range_comes_in_parts(store, s3, monkeypatch):
    monkeypatch.setattr(transfer, "RANGE_BYTES", 700)
    push(store.path, URL, storage_options=s3)
    CounterpartStore.open(URL, storage_options=s3).verify()


def test_there_is_no_such_store(s3):
    with pytest.raises(StoreError, match=rf"^{URL}: there is no counterpart store; .*: there is no such file\.$"):
        CounterpartStore.open(URL, storage_options=s3)


def test_there_is_no_such_bucket(store, s3):
    with pytest.raises(
        StoreError, match=r"^s3://nosuch/x: there is no counterpart store; .*: there is no such bucket\.$"
    ):
        CounterpartStore.open("s3://nosuch/x", storage_options=s3)
    with pytest.raises(StoreError, match=r"^s3://nosuch/x/.*: there is no such bucket\.$"):
        push(store.path, "s3://nosuch/x", storage_options=s3)


def test_no_credentials(s3, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    options = {"client_kwargs": s3["client_kwargs"], "skip_instance_cache": True}
    with pytest.raises(StoreError, match=r"store.json: no credentials were found\.$") as caught:
        CounterpartStore.open(URL, storage_options=options)
    assert caught.value.__cause__ is None


@pytest.mark.slow  # it is tried again, with waits between
def test_nobody_listens():
    options = {"key": "key", "secret": "SECRET", "client_kwargs": {"endpoint_url": "http://127.0.0.1:1"}}
    with pytest.raises(StoreError, match=r"store.json: was tried 4 times and failed: the server cannot be reached\.$"):
        CounterpartStore.open(URL, storage_options=options)


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (403, "access is denied"),
        (404, "there is no such file"),
        pytest.param(500, "was tried 4 times and failed: the server answers with status 500", marks=pytest.mark.slow),
        (503, "was tried 4 times and failed: the server answers with status 503"),
    ],
)
def test_what_a_server_may_answer(tmp_path, status, cause):
    with serving(tmp_path) as server:
        server.faults = [Fault("", "status", at=status)]
        options = {"key": "key", "secret": "SECRET", "client_kwargs": {"endpoint_url": server.url}}
        with pytest.raises(StoreError, match=rf"store.json: {cause}\.$") as caught:
            CounterpartStore.open(URL, storage_options=options)
    assert caught.value.__cause__ is None
    assert "SECRET" not in str(caught.value)


@pytest.fixture
def faulty(tmp_path: Path):
    """A server that gives the small store's files as S3 gives objects, and does what its faults say."""
    work.build(tmp_path / "served" / BUCKET / "stores" / "small")
    with serving(tmp_path / "served") as server:
        yield server


@pytest.mark.parametrize(("kind", "at"), [("cut", 1000), ("wrong", 2000), ("status", 500)])
def test_a_fault_that_passes(faulty, tmp_path, kind, at):
    options = {"key": "key", "secret": "SECRET", "client_kwargs": {"endpoint_url": faulty.url}}
    faulty.faults = [Fault("counterparts-00001", kind, at=at, times=1)]
    pull(URL, tmp_path / "back", storage_options=options)
    assert work.contents(tmp_path / "back") == work.contents(tmp_path / "served" / BUCKET / "stores" / "small")
    assert len(faulty.gets_of(".safetensors")) == 7 + 1


@pytest.mark.parametrize(
    ("kind", "at", "cause"),
    [pytest.param("cut", 1000, "the connection broke", marks=pytest.mark.slow), ("wrong", 2000, "the SHA-256")],
)
def test_a_fault_that_stays(faulty, tmp_path, kind, at, cause):
    options = {"key": "key", "secret": "SECRET", "client_kwargs": {"endpoint_url": faulty.url}}
    faulty.faults = [Fault("counterparts-00001", kind, at=at)]
    with pytest.raises(StoreError, match=rf"counterparts-00001-.*: was tried 4 times and failed: {cause}") as caught:
        pull(URL, tmp_path / "back", storage_options=options)
    assert "SECRET" not in str(caught.value)
