"""Bringing files from a server: resumed where they broke off, tried again, and verified before they get their name.

A web server is asked for one stream from the byte where the last one ended; anything else that fsspec reads is asked
for ranges, a few at a time. Either way what arrives is hashed as it comes, and a file whose size or SHA-256 is not that
of `store.json` is fetched once more from its beginning.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol, TypeVar

from diffcore_gpu.errors import StoreError
from diffcore_gpu.store.durable import named_os_errors, open_to_write, sync_folder, write_at
from diffcore_gpu.store.manifest import FileEntry
from diffcore_gpu.store.remote.faults import (
    BrokenTransferError,
    MissingFileError,
    cause_of,
    is_missing,
    is_passing,
    library_errors,
)
from diffcore_gpu.store.remote.location import RemoteFolder

WAITS = (0.5, 2.0, 6.0)
"""Seconds before each further try; a try that brought the file further than any before begins the count again."""
RANGE_BYTES = 8 << 20
RANGES_AT_ONCE = 4
PARTIAL_SUFFIX = ".part"

_STREAM_BYTES = 1 << 20
_LAST_SECONDS = 5  # for connections to be closed
_CONTENT_RANGE = re.compile(r"bytes (\d+)-")

Told = Callable[[int], None]
"""Told how many bytes of a file are there, as they arrive."""

_Result = TypeVar("_Result")


class _Sink(Protocol):
    """What takes the bytes of a file in order."""

    size: int | None
    limit: int
    position: int

    def write(self, data: bytes) -> None: ...

    def restart(self) -> None: ...


def download(source: RemoteFolder, entry: FileEntry, path: Path, told: Told | None = None) -> None:
    """Bring a file of a remote store to `path`, which is replaced in one step once all of it is there and right.

    What has arrived of it lies beside, as `path` with `.part`, and is gone on with by the next call.

    Args:
        source: the store's folder.
        entry: the file's name, size and SHA-256.
        path: where it goes; its folder is made.
        told: hears of the progress.

    Raises:
        StoreError: the file is missing, stays out of reach or wrong after a few tries, or cannot be written here.
    """
    with named_os_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    arrival = Arrival(path, entry, told)
    try:
        furthest = arrival.position

        def receive() -> None:
            if arrival.position < entry.size:
                _receive(source, entry.name, arrival)
            arrival.check()

        def advanced() -> bool:
            nonlocal furthest
            before, furthest = furthest, max(furthest, arrival.position)
            return furthest > before

        with_tries(source.shown(entry.name), receive, advanced)
        arrival.finish()
    finally:
        arrival.close()


def read_small(source: RemoteFolder, name: str, limit: int) -> bytes:
    """The bytes of a file of at most `limit` bytes.

    Raises:
        MissingFileError: there is no such file.
        StoreError: it stays out of reach after a few tries, or is larger.
    """

    def receive() -> bytes:
        source.fs.invalidate_cache()  # what is known of the folder may have become wrong meanwhile
        sink = _Memory(limit)
        _receive(source, name, sink)
        return bytes(sink.data)

    data = with_tries(source.shown(name), receive)
    if len(data) > limit:
        raise StoreError(f"{source.shown(name)}: is too large: more than {limit} bytes.")
    return data


def with_tries(place: str, action: Callable[[], _Result], advanced: Callable[[], bool] = lambda: False) -> _Result:
    """What `action` gives, which is tried again with growing waits where the cause may pass.

    Args:
        place: what the message names.
        action: talks to a server.
        advanced: whether the try that just failed brought something, so that the count of tries begins again.

    Raises:
        MissingFileError: there is no such file.
        StoreError: it did not succeed; one sentence that says why.
    """
    failures = 0
    while True:
        try:
            return action()
        except library_errors() as error:
            cause, passing, missing = cause_of(error), is_passing(error), is_missing(error)
        if missing:
            raise MissingFileError(f"{place}: {cause}.")
        if not passing:
            raise StoreError(f"{place}: {cause}.")
        failures = 1 if advanced() else failures + 1
        if failures > len(WAITS):
            raise StoreError(f"{place}: was tried {failures} times and failed: {cause}.")
        time.sleep(WAITS[failures - 1])


class Arrival:
    """A file that arrives: its first bytes, beside the place that it will have, and the hash over them.

    Attributes:
        position: how many bytes are there.
        size: how many there will be.
        limit: likewise.

    Args:
        path: where it goes in the end.
        entry: its size and SHA-256.
        told: hears of the progress.

    Raises:
        StoreError: the file beside cannot be opened or read.
    """

    def __init__(self, path: Path, entry: FileEntry, told: Told | None = None) -> None:
        self.size: int | None = entry.size
        self.limit = entry.size
        self.position = 0
        self._path, self._beside, self._entry = path, path.with_name(path.name + PARTIAL_SUFFIX), entry
        self._told = told or (lambda done: None)
        self._lock = threading.Lock()  # an interrupted transfer may still write from the thread that receives
        self._digest = hashlib.sha256()
        with named_os_errors(self._beside):
            self._fd = open_to_write(self._beside)
            self._resume()

    def _resume(self) -> None:
        while block := os.read(self._fd, _STREAM_BYTES):
            self._digest.update(block)
            self.position += len(block)
        if self.position > self.limit:
            self._empty()
        self._told(self.position)

    def write(self, data: bytes) -> None:
        """Add the next bytes.

        Raises:
            BrokenTransferError: these are more than the file has.
            StoreError: the disk is full, …; what had arrived is then removed.
        """
        if self.position + len(data) > self.limit:
            raise BrokenTransferError(f"the server sends more than the {self.limit} bytes that store.json calls for.")
        with self._lock:
            if self._fd < 0:
                raise BrokenTransferError("the transfer was given up.")
            try:
                with named_os_errors(self._path):
                    write_at(self._fd, data, self.position)
            except StoreError:
                self._beside.unlink(missing_ok=True)
                raise
            self._digest.update(data)
            self.position += len(data)
        self._told(self.position)

    def restart(self) -> None:
        """Forget what has arrived."""
        with self._lock, named_os_errors(self._beside):
            self._empty()

    def _empty(self) -> None:
        os.ftruncate(self._fd, 0)
        self.position, self._digest = 0, hashlib.sha256()

    def check(self) -> None:
        """Raise `BrokenTransferError` unless all bytes are there and right; wrong ones are forgotten."""
        if self.position < self.limit:
            raise BrokenTransferError(f"the server sent {self.position} of {self.limit} bytes.")
        found, expected = self._digest.hexdigest(), self._entry.checksum
        if found != expected:
            self.restart()
            raise BrokenTransferError(
                f"the SHA-256 of what arrives is {found[:12]}…, where store.json calls for {expected[:12]}…."
            )

    def finish(self) -> None:
        """Make the file durable and give it its name."""
        with named_os_errors(self._path):
            os.fsync(self._fd)
            self._beside.replace(self._path)
            sync_folder(self._path.parent)

    def close(self) -> None:
        """Give the descriptor back; what has arrived stays."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
            self._fd = -1


class _Memory:
    """Takes the bytes of a file that nobody knows the size of, up to one more than `limit`."""

    def __init__(self, limit: int) -> None:
        self.size: int | None = None
        self.limit = limit
        self.data = bytearray()

    @property
    def position(self) -> int:
        return len(self.data)

    def write(self, data: bytes) -> None:
        self.data += data[: self.limit + 1 - len(self.data)]

    def restart(self) -> None:
        self.data.clear()


def _receive(source: RemoteFolder, name: str, sink: Any) -> None:
    """Read a file of a server into a sink, from the sink's position on."""
    fs, path = source.fs, source.path(name)
    if source.scheme in ("http", "https"):
        run_in(fs, _stream(fs, path, sink))
    elif sink.size is None:
        part = {"start": 0, "end": sink.limit + 1}
        sink.write(run_in(fs, fs._cat_file(path, **part)) if fs.async_impl else fs.cat_file(path, **part))
    elif fs.async_impl:
        _read_ranges(fs, path, sink)
    else:
        _read_on(fs, path, sink)


def run_in(fs: Any, work: Coroutine[Any, Any, _Result]) -> _Result:
    """What a coroutine gives that is run in the thread of fsspec; it is over when this returns, also by Ctrl-C."""
    over = threading.Event()

    async def until_over() -> _Result:
        try:
            return await work
        finally:
            over.set()

    future = asyncio.run_coroutine_threadsafe(until_over(), fs.loop)
    try:
        return future.result()
    except BaseException:
        if not over.is_set():
            future.cancel()
            over.wait(_LAST_SECONDS)
        raise


async def _stream(fs: Any, url: str, sink: _Sink) -> None:
    """One answer of a web server, from the sink's position on where the server can do that, else from the beginning."""
    headers = {**fs.kwargs.get("headers", {}), "Accept-Encoding": "identity"}
    if sink.position:
        headers["Range"] = f"bytes={sink.position}-"
    session = await fs.set_session()
    async with session.get(fs.encode_url(url), **{**fs.kwargs, "headers": headers}) as response:
        response.raise_for_status()
        if url.startswith("https:") and response.url.scheme != "https":
            raise BrokenTransferError("the server redirects to an address that is not encrypted.")
        if sink.position and not _continues(response, sink.position):
            sink.restart()
        length = response.content_length
        if sink.size is not None and length is not None and length != sink.size - sink.position:
            whole = sink.position + length
            raise BrokenTransferError(f"the server has {whole} bytes, where store.json calls for {sink.size}.")
        async for block in response.content.iter_chunked(_STREAM_BYTES):
            sink.write(block)
            if sink.position > sink.limit:
                return


def _continues(response: Any, position: int) -> bool:
    """Whether an answer begins at that byte; a server without ranges sends the whole file."""
    found = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
    return response.status == 206 and found is not None and int(found[1]) == position


def _read_ranges(fs: Any, path: str, sink: _Sink) -> None:
    while sink.position < sink.limit:
        last = min(sink.limit, sink.position + RANGE_BYTES * RANGES_AT_ONCE)
        starts = list(range(sink.position, last, RANGE_BYTES))
        ends = [min(start + RANGE_BYTES, last) for start in starts]
        blocks = run_in(fs, fs._cat_ranges([path] * len(starts), starts, ends, on_error="return"))
        for start, end, block in zip(starts, ends, blocks, strict=True):
            if isinstance(block, BaseException):
                raise block
            if len(block) != end - start:
                sink.write(block[: end - start])
                raise BrokenTransferError(f"the server sent {sink.position} of {sink.size} bytes.")
            sink.write(block)


def _read_on(fs: Any, path: str, sink: _Sink) -> None:
    """Where ranges would come one after the other anyway: the file is opened once."""
    with fs.open(path, "rb", block_size=RANGE_BYTES, cache_type="none") as file:
        file.seek(sink.position)
        while sink.position < sink.limit:
            data = file.read(min(RANGE_BYTES, sink.limit - sink.position))
            if not data:
                raise BrokenTransferError(f"the server sent {sink.position} of {sink.size} bytes.")
            sink.write(data)
