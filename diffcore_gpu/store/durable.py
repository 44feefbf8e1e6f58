"""Writing so that a crash loses nothing: flushes, replacement by rename, errors that name the file.

A rename is atomic, but neither it nor the bytes behind it survive a power cut until the file and then its folder have
been flushed. Every function here does both, in that order.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from diffcore_gpu.errors import StoreError


@contextlib.contextmanager
def named_os_errors(path: Path, action: str = "cannot be written") -> Iterator[None]:
    """Turn an `OSError` of the block (full disk, no permission, …) into a `StoreError` naming `path` and the cause."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{path}: {action}: {error.strerror or error}.") from error


def write_at(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of `data` at byte `offset`; a short write is continued until the system says why, as OSError."""
    view = memoryview(data).cast("B")
    done = 0
    while done < len(view):
        done += os.pwrite(fd, view[done:], offset + done)


def sync_folder(folder: Path) -> None:
    """Make the renames, creations and removals inside `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace_file(path: Path, data: bytes) -> None:
    """Write `data` beside `path`, flush it and rename it over `path`: a reader sees the old bytes or all the new ones.

    Raises:
        StoreError: if the disk is full or the folder cannot be written; `path` is then as it was.
    """
    beside = path.with_name(path.name + ".tmp")
    with named_os_errors(path):
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            write_at(fd, data, 0)
            os.fsync(fd)
        finally:
            os.close(fd)
        beside.replace(path)
        sync_folder(path.parent)
