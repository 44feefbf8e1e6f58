"""The files of remote stores on this machine: fetched once, shared, bounded, checked before use."""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from diffcore_gpu.errors import StoreError
from diffcore_gpu.store.manifest import FileEntry
from diffcore_gpu.store.remote import cache, transfer
from diffcore_gpu.store.remote.cache import FileCache, cache_folder
from diffcore_gpu.store.remote.location import RemoteFolder
from diffcore_gpu.store.remote.locks import locked
from tests.store.remote.servers import Fault, serving

pytest.importorskip("aiohttp", reason="the extra remote brings it")

SIZE = 100_000
CONTENT = [np.random.default_rng(number).integers(0, 256, SIZE, np.uint8).tobytes() for number in range(4)]
ENTRIES = [FileEntry(f"shard-{k}", SIZE, hashlib.sha256(data).hexdigest()) for k, data in enumerate(CONTENT)]


@pytest.fixture
def server(tmp_path: Path):
    (tmp_path / "served").mkdir()
    for entry, data in zip(ENTRIES, CONTENT, strict=True):
        (tmp_path / "served" / entry.name).write_bytes(data)
    with serving(tmp_path / "served") as files:
        yield files


@pytest.fixture
def source(server):
    return RemoteFolder(server.url)


def held(folder: Path) -> set[int]:
    """Which of the files lie in a cache, whole."""
    found = {path.name for path in (folder / "files").iterdir() if path.suffix == ""}
    return {number for number, entry in enumerate(ENTRIES) if entry.checksum in found}


def test_where_it_lies(tmp_path, monkeypatch):
    monkeypatch.delenv("DIFFCORE_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "diffcore-gpu"
    monkeypatch.setenv("DIFFCORE_CACHE", str(tmp_path / "elsewhere"))
    assert cache_folder() == tmp_path / "elsewhere"
    assert cache_folder(tmp_path / "given") == tmp_path / "given"


def test_a_file_is_fetched_once(server, source, tmp_path):
    for _ in range(3):
        assert FileCache(tmp_path / "cache").fetch(source, ENTRIES[0]).read_bytes() == CONTENT[0]
    assert server.gets_of("shard-0") == [None]


def test_stores_share_what_is_equal(server, source, tmp_path):
    (tmp_path / "served" / "other").mkdir()
    kept = FileCache(tmp_path / "cache")
    first = kept.fetch(source, ENTRIES[0])
    entry = FileEntry("another name", SIZE, ENTRIES[0].checksum)
    assert kept.fetch(RemoteFolder(f"{server.url}/other"), entry) == first
    assert len(server.gets) == 1


def test_a_damaged_file_is_fetched_again(server, source, tmp_path):
    kept = FileCache(tmp_path / "cache")
    for number, damage in enumerate((CONTENT[0][:50], CONTENT[0][:-1] + b"?", CONTENT[0] + b"more")):
        path = kept.fetch(source, ENTRIES[0])
        path.write_bytes(damage)
        assert not kept.holds(ENTRIES[0])
        assert kept.fetch(source, ENTRIES[0]).read_bytes() == CONTENT[0]
        assert len(server.gets) == number + 2


def test_a_file_that_was_only_touched_is_hashed_and_kept(server, source, tmp_path):
    kept = FileCache(tmp_path / "cache")
    path = kept.fetch(source, ENTRIES[0])
    os.utime(path, ns=(1, 1))
    for stamp in (tmp_path / "cache" / "files").glob("*.stamp"):
        stamp.write_text("[[")
    assert kept.fetch(source, ENTRIES[0]).read_bytes() == CONTENT[0]
    assert len(server.gets) == 1


def test_what_was_used_longest_ago_goes_first(source, tmp_path):
    kept = FileCache(tmp_path / "cache", cache_bytes=2 * SIZE + 10)
    kept.fetch(source, ENTRIES[0])
    kept.fetch(source, ENTRIES[1])
    time.sleep(0.01)
    kept.fetch(source, ENTRIES[0])
    kept.fetch(source, ENTRIES[2])
    assert held(tmp_path / "cache") == {0, 2}
    kept.fetch(source, ENTRIES[3])
    assert held(tmp_path / "cache") == {2, 3}


def test_room_is_made_before_a_file_comes(server, source, tmp_path):
    """The bound holds at every moment: also while a file arrives."""
    kept = FileCache(tmp_path / "cache", cache_bytes=SIZE)
    seen: list[int] = []

    def look(done: int) -> None:
        seen.append(sum(path.stat().st_size for path in kept._files.iterdir() if ".stamp" not in path.name))

    for entry in ENTRIES:
        kept.fetch(source, entry, look)
    assert max(seen) == SIZE
    assert held(tmp_path / "cache") == {3}


def test_what_broke_off_is_removed_too(server, source, tmp_path):
    server.ranges = False
    server.faults = [Fault("shard-0", "cut", at=60_000)]
    kept = FileCache(tmp_path / "cache", cache_bytes=SIZE)
    with pytest.raises(StoreError, match="the connection broke"):
        kept.fetch(source, ENTRIES[0])
    assert [path.suffix for path in kept._files.iterdir() if ".stamp" not in path.name] == [".part"]
    kept.fetch(source, ENTRIES[1])
    assert [path.name for path in kept._files.iterdir() if ".stamp" not in path.name] == [ENTRIES[1].checksum]


def test_a_file_larger_than_the_bound(server, source, tmp_path):
    kept = FileCache(tmp_path / "cache", cache_bytes=SIZE - 1)
    with pytest.raises(
        StoreError, match=rf"shard-0: has {SIZE} bytes, and the cache in .* may take {SIZE - 1}; give more"
    ):
        kept.fetch(source, ENTRIES[0])
    assert server.gets == []
    with pytest.raises(StoreError, match=r"cache_bytes is 0; it must be at least 1\.$"):
        FileCache(tmp_path / "cache", cache_bytes=0)


def test_without_a_bound_a_share_of_the_disk(source, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 3 * SIZE})
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: usage)
    kept = FileCache(tmp_path / "cache")
    kept.fetch(source, ENTRIES[0])  # half of 3 files
    usage.free = 2 * SIZE
    kept.fetch(source, ENTRIES[1])  # half of 2 files and the one that is there
    assert held(tmp_path / "cache") == {1}


def test_what_is_open_stays_readable(source, tmp_path):
    kept = FileCache(tmp_path / "cache", cache_bytes=SIZE)
    opened = np.memmap(kept.fetch(source, ENTRIES[0]), np.uint8, "r")
    kept.fetch(source, ENTRIES[1])
    assert held(tmp_path / "cache") == {1}
    assert opened.tobytes() == CONTENT[0]


def _fetch(url: str, folder: Path, number: int, ready, results, cache_bytes: int | None = None) -> None:
    ready.wait()
    path = FileCache(folder, cache_bytes).fetch(RemoteFolder(url), ENTRIES[number])
    results.put(path.read_bytes() == CONTENT[number])


def test_processes_that_want_the_same_file_fetch_it_once(server, tmp_path):
    server.delay = 0.2
    context = multiprocessing.get_context("fork")
    ready, results = context.Event(), context.Queue()
    arguments = (server.url, tmp_path / "cache", 0, ready, results)
    workers = [context.Process(target=_fetch, args=arguments) for _ in range(4)]
    for worker in workers:
        worker.start()
    ready.set()
    assert [results.get(timeout=60) for _ in workers] == [True] * 4
    for worker in workers:
        worker.join(60)
    assert server.gets_of("shard-0") == [None]


def test_the_bound_holds_among_processes(server, source, tmp_path):
    """Files that arrive count as they will be: the second waits until the first can go."""
    server.delay = 0.2
    context = multiprocessing.get_context("fork")
    ready, results = context.Event(), context.Queue()
    folder, bound = tmp_path / "cache", SIZE + 10
    workers = [
        context.Process(target=_fetch, args=(server.url, folder, number, ready, results, bound)) for number in (0, 1)
    ]
    for worker in workers:
        worker.start()
    ready.set()
    most = 0
    while any(worker.is_alive() for worker in workers):
        if (folder / "files").is_dir():
            most = max(most, sum(_size(path) for path in (folder / "files").iterdir() if ".stamp" not in path.name))
    assert [results.get(timeout=60) for _ in workers] == [True] * 2
    assert most == SIZE


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


KILLED = """
import sys
from pathlib import Path
from tests.store.remote.test_cache import ENTRIES
from diffcore_gpu.store.remote.cache import FileCache
from diffcore_gpu.store.remote.location import RemoteFolder
FileCache(sys.argv[2]).fetch(RemoteFolder(sys.argv[1]), ENTRIES[0], lambda done: print(done, flush=True))
"""


@pytest.mark.slow
def test_a_killed_process_leaves_its_lock_and_its_part(server, source, tmp_path):
    server.faults = [Fault("shard-0", "stall", at=40_000, times=1)]
    command = [sys.executable, "-c", KILLED, server.url, str(tmp_path / "cache")]
    root = Path(__file__).parents[3]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        while int(process.stdout.readline()) < 40_000:
            pass
        process.send_signal(signal.SIGKILL)
    assert FileCache(tmp_path / "cache").fetch(source, ENTRIES[0]).read_bytes() == CONTENT[0]
    assert server.gets_of("shard-0") == [None, "bytes=40000-"]


def test_waiting_for_one_that_is_stuck_has_an_end(source, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "PATIENCE", 0.1)
    kept = FileCache(tmp_path / "cache")
    with (
        locked(kept._lock_of(ENTRIES[0].checksum), "nobody", 1),
        pytest.raises(StoreError, match=r"shard-0: another process has been fetching it for 0.1 s, .*\.$"),
    ):
        kept.fetch(source, ENTRIES[0])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk(server, source, tmp_path, monkeypatch, number):
    def full(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(transfer, "write_at", full)
        with pytest.raises(StoreError, match=rf"cannot be written: {os.strerror(number)}\.$"):
            FileCache(tmp_path / "cache").fetch(source, ENTRIES[0])
    assert FileCache(tmp_path / "cache").fetch(source, ENTRIES[0]).read_bytes() == CONTENT[0]


def test_a_folder_that_cannot_be_made(source, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"Not a directory\.$"):
        FileCache(tmp_path / "file").fetch(source, ENTRIES[0])
