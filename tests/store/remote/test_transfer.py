"""What a server may do while a file is fetched: the file comes whole, or one sentence says why not."""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

import numpy as np
import pytest

from diffcore_gpu.errors import StoreError
from diffcore_gpu.store.manifest import FileEntry
from diffcore_gpu.store.remote import location, transfer
from diffcore_gpu.store.remote.location import RemoteFolder
from diffcore_gpu.store.remote.transfer import download, read_small
from tests.store.remote.servers import Fault, FileServer, make_certificate, serving

pytest.importorskip("aiohttp", reason="the extra remote brings it")

SIZE = 3_000_001
DATA = np.random.default_rng(1).integers(0, 256, SIZE, np.uint8).tobytes()
ENTRY = FileEntry("shard-0.safetensors", SIZE, hashlib.sha256(DATA).hexdigest())


@pytest.fixture
def server(tmp_path: Path):
    (tmp_path / "served" / "store").mkdir(parents=True)
    (tmp_path / "served" / "store" / ENTRY.name).write_bytes(DATA)
    with serving(tmp_path / "served") as files:
        yield files


def fetch(server: FileServer, path: Path) -> bytes:
    download(RemoteFolder(f"{server.url}/store"), ENTRY, path)
    assert [other.name for other in path.parent.iterdir()] == [path.name]
    return path.read_bytes()


def refusal(server: FileServer, path: Path) -> str:
    with pytest.raises(StoreError) as caught:
        download(RemoteFolder(f"{server.url}/store?signature=SECRET"), ENTRY, path)
    message = str(caught.value)
    assert message.startswith(f"{server.url}/store/{ENTRY.name}: ")
    assert message.endswith(".")
    assert "\n" not in message
    assert "SECRET" not in message
    assert caught.value.__cause__ is None
    assert not path.exists()
    return message.removeprefix(f"{server.url}/store/{ENTRY.name}: ")


def test_one_request_brings_a_file(server, tmp_path):
    assert fetch(server, tmp_path / "here" / "shard") == DATA
    assert server.gets_of(ENTRY.name) == [None]


def test_the_progress_is_told(server, tmp_path):
    told: list[int] = []
    download(RemoteFolder(f"{server.url}/store"), ENTRY, tmp_path / "shard", told.append)
    assert told == sorted(told)
    assert (told[0], told[-1]) == (0, SIZE)


def test_a_signature_goes_with_every_file(server, tmp_path):
    download(RemoteFolder(f"{server.url}/store/?sig=a%2Fb%3D&se=1"), ENTRY, tmp_path / "shard")
    assert [path for path, _ in server.gets] == [f"/store/{ENTRY.name}?sig=a%2Fb%3D&se=1"]


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
@pytest.mark.parametrize("kind", ["cut", "stall"])
def test_a_connection_that_breaks_once(server, tmp_path, monkeypatch, kind, ranges):
    monkeypatch.setattr(location, "STALL_SECONDS", 0.3)
    server.ranges = ranges
    server.faults = [Fault(ENTRY.name, kind, at=1_234_567, times=1)]
    assert fetch(server, tmp_path / "here" / "shard") == DATA
    first, second = server.gets_of(ENTRY.name)
    assert first is None
    assert second is not None
    assert 0 < int(second.removeprefix("bytes=").removesuffix("-")) <= 1_234_567


def test_a_connection_that_breaks_again_and_again_gets_there(server, tmp_path):
    server.faults = [Fault(ENTRY.name, "cut", at=400_000)]
    assert fetch(server, tmp_path / "here" / "shard") == DATA
    assert len(server.gets) >= 8


def test_a_connection_that_always_breaks_where_there_are_no_ranges(server, tmp_path):
    server.ranges = False
    server.faults = [Fault(ENTRY.name, "cut", at=400_000)]
    assert refusal(server, tmp_path / "here" / "shard") == "was tried 4 times and failed: the connection broke."
    assert len(server.gets) == 4


def test_a_server_that_falls_silent(server, tmp_path, monkeypatch):
    monkeypatch.setattr(location, "STALL_SECONDS", 0.2)
    server.faults = [Fault(ENTRY.name, "stall", at=0)]
    assert refusal(server, tmp_path / "here" / "shard") == "was tried 4 times and failed: the server does not answer."


def test_a_later_call_goes_on(server, tmp_path):
    server.ranges = False  # so that the tries come to an end
    server.faults = [Fault(ENTRY.name, "cut", at=1_500_000)]
    refusal(server, tmp_path / "here" / "shard")
    begun = (tmp_path / "here" / "shard.part").stat().st_size
    assert begun > 0
    server.ranges, server.faults, server.gets = True, [], []
    assert fetch(server, tmp_path / "here" / "shard") == DATA
    assert server.gets_of(ENTRY.name) == [f"bytes={begun}-"]


@pytest.mark.parametrize(
    "left", [b"x" * 1000, DATA + b"more", DATA[:-1] + b"!"], ids=["wrong", "long", "wrong at the end"]
)
def test_what_lies_there_is_not_trusted(server, tmp_path, left):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "shard.part").write_bytes(left)
    assert fetch(server, tmp_path / "here" / "shard") == DATA


def test_wrong_bytes_once(server, tmp_path):
    server.faults = [Fault(ENTRY.name, "wrong", at=2_000_000, times=1)]
    assert fetch(server, tmp_path / "here" / "shard") == DATA
    assert server.gets_of(ENTRY.name) == [None, None]


def test_wrong_bytes_always(server, tmp_path):
    server.faults = [Fault(ENTRY.name, "wrong", at=2_000_000)]
    message = refusal(server, tmp_path / "here" / "shard")
    assert message.startswith("was tried 4 times and failed: the SHA-256 of what arrives is ")
    assert f"store.json calls for {ENTRY.checksum[:12]}" in message
    assert len(server.gets) == 4


@pytest.mark.parametrize(("change", "has"), [(b"more", SIZE + 4), (b"", 10)])
def test_a_file_of_another_size(server, tmp_path, change, has):
    (server.folder / "store" / ENTRY.name).write_bytes(DATA + change if change else DATA[:10])
    message = refusal(server, tmp_path / "here" / "shard")
    assert message.endswith(f"the server has {has} bytes, where store.json calls for {SIZE}.")


def test_a_page_to_log_in(server, tmp_path):
    server.faults = [Fault(ENTRY.name, "page")]
    assert "the server has 27 bytes" in refusal(server, tmp_path / "here" / "shard")


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_status_that_passes(server, tmp_path, status):
    server.faults = [Fault(ENTRY.name, "status", at=status, times=2)]
    assert fetch(server, tmp_path / "here" / "shard") == DATA
    assert len(server.gets) == 3


@pytest.mark.parametrize(
    ("status", "tries", "message"),
    [
        (500, 4, "was tried 4 times and failed: the server answers with status 500."),
        (401, 1, "access is denied."),
        (403, 1, "access is denied."),
        (404, 1, "there is no such file."),
        (410, 1, "there is no such file."),
        (400, 1, "the server answers with status 400."),
    ],
)
def test_a_status_that_stays(server, tmp_path, status, tries, message):
    server.faults = [Fault(ENTRY.name, "status", at=status)]
    assert refusal(server, tmp_path / "here" / "shard") == message
    assert len(server.gets) == tries


def test_a_redirect_is_followed(server, tmp_path):
    (server.folder / "elsewhere").write_bytes(DATA)
    server.moved = {f"/store/{ENTRY.name}": "/elsewhere"}
    server.faults = [Fault("elsewhere", "cut", at=1_000_000, times=1)]
    assert fetch(server, tmp_path / "here" / "shard") == DATA


def test_redirects_without_end(server, tmp_path):
    server.faults = [Fault(ENTRY.name, "loop")]
    assert refusal(server, tmp_path / "here" / "shard") == "the server redirects without end."


def test_nobody_listens(server, tmp_path):
    with pytest.raises(
        StoreError, match=r"/store/shard-0.safetensors: was tried 4 times .*: the server cannot be reached\.$"
    ):
        download(RemoteFolder("http://127.0.0.1:1/store?signature=SECRET"), ENTRY, tmp_path / "shard")


def test_a_full_disk_is_said_and_gives_its_place_back(server, tmp_path, monkeypatch):
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(transfer, "write_at", full)
    with pytest.raises(StoreError, match=r"shard: cannot be written: No space left on device\.$"):
        download(RemoteFolder(f"{server.url}/store"), ENTRY, tmp_path / "here" / "shard")
    assert list((tmp_path / "here").iterdir()) == []
    assert len(server.gets) == 1


def test_tls(tmp_path, server):
    certificate = make_certificate(tmp_path / "certificate.pem")
    with serving(server.folder, certificate) as secure:
        assert secure.url.startswith("https://")
        with pytest.raises(StoreError, match=r"shard-0.safetensors: the server's certificate is not trusted\.$"):
            download(RemoteFolder(f"{secure.url}/store"), ENTRY, tmp_path / "shard")
        trusted = {"ssl": ssl.create_default_context(cafile=str(certificate))}
        secure.faults = [Fault(ENTRY.name, "cut", at=1_000_000, times=1)]
        download(RemoteFolder(f"{secure.url}/store", trusted), ENTRY, tmp_path / "shard")
        assert (tmp_path / "shard").read_bytes() == DATA
        assert len(secure.gets_of(ENTRY.name)) == 2


def test_tls_is_not_left_by_a_redirect(tmp_path, server):
    certificate = make_certificate(tmp_path / "certificate.pem")
    with serving(server.folder, certificate) as secure:
        secure.moved = {f"/store/{ENTRY.name}": f"{server.url}/store/{ENTRY.name}"}
        trusted = {"ssl": ssl.create_default_context(cafile=str(certificate))}
        with pytest.raises(StoreError, match=r": the server redirects to an address that is not encrypted\.$"):
            download(RemoteFolder(f"{secure.url}/store", trusted), ENTRY, tmp_path / "shard")


def test_small_files_are_bounded(server):
    (server.folder / "store" / "store.json").write_bytes(b"x" * 1000)
    source = RemoteFolder(f"{server.url}/store")
    assert read_small(source, "store.json", 1000) == b"x" * 1000
    with pytest.raises(StoreError, match=r"store.json: is too large: more than 999 bytes\.$"):
        read_small(source, "store.json", 999)


@pytest.mark.parametrize("url", ["bucket/store", "s3://b::memory://c", "nosuch://x"])
def test_no_url(url):
    with pytest.raises(StoreError, match=r"\.$"):
        RemoteFolder(url)
