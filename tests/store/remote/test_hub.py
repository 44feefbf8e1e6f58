"""Stores on the Hugging Face Hub, with the client that everyone uses and a server that speaks its language."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffcore_gpu.errors import StoreError
from diffcore_gpu.store import CounterpartStore
from diffcore_gpu.store.remote import targets
from diffcore_gpu.store.remote.pull import pull
from diffcore_gpu.store.remote.push import push
from tests.store import work
from tests.store.remote.hub import COMMIT, Hub, hub_server

hub_client = pytest.importorskip("huggingface_hub", reason="the extra remote brings it")

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of huggingface_hub's own requests
URL = "hf://datasets/someone/birds"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch):
    # the Hub's other way to take files, Xet, speaks to servers that nobody else has
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    with hub_server() as running:
        yield running


@pytest.fixture
def options(hub: Hub) -> dict[str, str]:
    return {"endpoint": hub.url, "token": "hf_SECRET"}


@pytest.fixture
def store(tmp_path: Path) -> CounterpartStore:
    return work.build(tmp_path / "store")


def test_there_and_back(hub, options, store, tmp_path):
    report = push(store.path, URL, storage_options=options)
    assert len(report.sent) == 7
    assert hub.private == {"someone/birds": True}
    files = hub.datasets["someone/birds"]
    assert files["store.json"] == (store.path / "store.json").read_bytes()
    assert f'CounterpartStore.open("{URL}")' in files["README.md"].decode()
    assert hub.commits[-1][-1] == "store.json"
    assert hub.tokens == {"Bearer hf_SECRET"}
    opened = CounterpartStore.open(URL, storage_options=options)
    assert str(opened.path) == URL
    opened.verify()
    pull(URL, tmp_path / "back", storage_options=options)
    assert work.contents(tmp_path / "back") == work.contents(store.path)


def test_in_a_folder_of_a_dataset(hub, options, store):
    push(store.path, f"{URL}/small", storage_options=options)
    assert "small/store.json" in hub.datasets["someone/birds"]
    CounterpartStore.open(f"{URL}@main/small", storage_options=options).verify()


def test_some_files_to_a_commit(hub, options, store, monkeypatch):
    monkeypatch.setattr(targets.HubTarget, "at_once", 3)
    push(store.path, URL, storage_options=options)
    assert [len(files) for files in hub.commits] == [3, 3, 1, 3]


def test_what_is_there_is_not_sent_again(hub, options, store):
    push(store.path, URL, storage_options=options)
    lost = store.manifest.shards[2].name
    del hub.datasets["someone/birds"][lost]
    hub.datasets["someone/birds"][store.manifest.shards[3].name] = b"damaged"
    hub.commits.clear()
    report = push(store.path, URL, storage_options=options)
    assert report.sent == (lost, store.manifest.shards[3].name)
    assert push(store.path, URL, storage_options=options).sent == ()
    assert len(hub.commits) == 2
    CounterpartStore.open(URL, storage_options=options).verify()


def test_another_store_is_there(hub, options, store, tmp_path):
    push(store.path, URL, storage_options=options)
    other = work.build(tmp_path / "other", metadata={"other": 1})
    with pytest.raises(StoreError, match=r"^hf://datasets/someone/birds: holds another store; give overwrite"):
        push(other.path, URL, storage_options=options)
    push(other.path, URL, storage_options=options, overwrite=True)
    assert CounterpartStore.open(URL, storage_options=options).checksum == other.checksum


def test_there_is_no_such_dataset(options):
    with pytest.raises(StoreError, match=rf"^{URL}: there is no counterpart store; .*: there is no such file\.$"):
        CounterpartStore.open(URL, storage_options=options)


@pytest.mark.parametrize("status", [401, 403])
def test_access_is_denied(hub, options, store, status):
    hub.refused = status
    with pytest.raises(StoreError, match=r"^hf://datasets/someone/birds.*: access is denied\.$") as caught:
        CounterpartStore.open(URL, storage_options=options)
    assert "SECRET" not in str(caught.value)
    with pytest.raises(StoreError, match=r"^hf://datasets/someone/birds.*: access is denied\.$"):
        push(store.path, URL, storage_options=options)


@pytest.mark.parametrize("url", ["hf://someone/model", "hf://datasets/someone", "hf://spaces/a/b"])
def test_only_datasets_are_pushed_to(store, url):
    with pytest.raises(StoreError, match=r": a store is pushed to a dataset of the Hub: hf://datasets/OWNER/NAME\.$"):
        push(store.path, url)


def test_a_snapshot_of_the_hub_is_a_folder(hub, options, store, tmp_path):
    """What `snapshot_download` leaves: links into `blobs`, two folders up."""
    push(store.path, URL, storage_options=options)
    folder = Path(
        hub_client.snapshot_download("someone/birds", repo_type="dataset", cache_dir=tmp_path / "hub", **options)
    )
    assert folder.parts[-2:] == ("snapshots", COMMIT)
    assert all(path.is_symlink() for path in folder.iterdir())
    opened = CounterpartStore.open(folder)
    opened.verify()
    assert opened.checksum == store.checksum


def test_a_snapshot_made_by_hand(store, tmp_path):
    blobs, snapshot = tmp_path / "hub" / "blobs", tmp_path / "hub" / "snapshots" / COMMIT
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(store.path.iterdir()):
        (blobs / str(number)).write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(Path("../../blobs") / str(number))
    CounterpartStore.open(snapshot).verify()
    outside = tmp_path / "outside"
    shard = snapshot / store.manifest.shards[0].name
    outside.write_bytes(shard.read_bytes())
    shard.unlink()
    shard.symlink_to(outside)
    with pytest.raises(StoreError, match="link to a file outside"):
        CounterpartStore.open(snapshot)
