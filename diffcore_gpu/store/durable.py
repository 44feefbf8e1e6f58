"""Writing so that a crash loses nothing: flushes, replacement by rename, errors that name the file; one writer at once.

A rename is atomic, but neither it nor the bytes behind it survive a power cut until the file and then its folder have
been flushed. What writes here does both, in that order.

What only some systems have is asked for in this file alone, so that a store can be written elsewhere too. Windows has
no positioned writes (there a seek and a write), no `fdatasync` (nor has macOS; `fsync` does more), and cannot flush a
folder: NTFS keeps a log of renames, but a power cut may take the last of them back, and then the writer resumes from
the point before. It can neither replace nor remove a file that is open or mapped, so a store that some process reads
cannot be overwritten there; the writer says so and its work stays. All of this was tried with those calls taken away
and files guarded likewise on Linux; nothing of it was tried on Windows or macOS themselves.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import filelock

from diffcore_gpu.errors import StoreError

LOCK_NAME = "writer.lock"

_READ_BYTES = 1 << 22


@contextlib.contextmanager
def named_os_errors(path: Path, action: str = "cannot be written") -> Iterator[None]:
    """Turn an `OSError` of the block (full disk, no permission, …) into a `StoreError` naming `path` and the cause."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{path}: {action}: {error.strerror or error}.") from error


def open_to_write(path: Path, flags: int = 0) -> int:
    """Open a file for reading and writing, and make it if it is missing; the descriptor is not inherited.

    Args:
        path: the file.
        flags: more of `os.open`, such as `os.O_TRUNC`.

    Raises:
        OSError: the system refuses.
    """
    # Windows would otherwise turn each byte 10 into two.
    return os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | flags, 0o666)


def write_at(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of `data` at byte `offset`; a short write is continued until the system says why, as OSError."""
    view = memoryview(data).cast("B")
    done = 0
    while done < len(view):
        if hasattr(os, "pwrite"):
            done += os.pwrite(fd, view[done:], offset + done)
        else:
            os.lseek(fd, offset + done, os.SEEK_SET)
            done += os.write(fd, view[done:])


_SEEKING = threading.Lock()


def read_at(fd: int, size: int, offset: int) -> bytes:
    """Up to `size` bytes from byte `offset`, fewer only where the file ends."""
    data = b""
    while len(data) < size:
        if hasattr(os, "pread"):
            more = os.pread(fd, size - len(data), offset + len(data))
        else:
            with _SEEKING:  # threads read from one file
                os.lseek(fd, offset + len(data), os.SEEK_SET)
                more = os.read(fd, size - len(data))
        if not more:
            break
        data = data + more if data else more
    return data


def flush_data(fd: int) -> None:
    """Make the bytes of a file durable, and its size."""
    (os.fdatasync if hasattr(os, "fdatasync") else os.fsync)(fd)


def sync_folder(folder: Path) -> None:
    """Make the renames, creations and removals inside `folder` durable, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it that are missing, each durable; nothing happens to one that is there."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in reversed(missing):
        sync_folder(path.parent)


def replace_file(path: Path, data: bytes) -> None:
    """Write `data` beside `path`, flush it and rename it over `path`: a reader sees the old bytes or all the new ones.

    What is there under the name beside it, left by a process that was killed, is replaced and not followed: it may be
    a link, or a pipe.

    Raises:
        StoreError: if the disk is full or the folder cannot be written; `path` is then as it was, and nothing lies
            beside it.
    """
    beside = path.with_name(path.name + ".tmp")
    with named_os_errors(path):
        beside.unlink(missing_ok=True)
        try:
            _write_new(beside, data)
            beside.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):  # the first error is the one to tell
                beside.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def _write_new(path: Path, data: bytes) -> None:
    fd = open_to_write(path, os.O_EXCL)
    try:
        write_at(fd, data, 0)
        os.fsync(fd)
    finally:
        os.close(fd)


def file_checksum(path: Path) -> str:
    """SHA-256 (hexadecimal) of a file, read in blocks; `StoreError` if it cannot be read."""
    digest = hashlib.sha256()
    with named_os_errors(path, "cannot be read"), path.open("rb", buffering=0) as file:
        block = bytearray(_READ_BYTES)
        view = memoryview(block)
        while count := file.readinto(view):
            digest.update(view[:count])
    return digest.hexdigest()


class WriterLock:
    """One writer at a time: the system's lock (`flock`, `LockFileEx`) on a file in the store's folder.

    The system drops it when the process dies, however it dies; the file goes away with the writer that ends. Where a
    file system knows no locks, as some on a network do, there is no writing: nothing else would tell a dead writer from
    a living one.

    Raises:
        StoreError: another writer holds the lock, the file cannot be made, or the file system cannot lock it.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK_NAME
        self._fd = -1
        while self._fd < 0:
            self._fd = self._try(folder)

    def _try(self, folder: Path) -> int:
        with named_os_errors(self._path, "cannot be locked"):
            fd = open_to_write(self._path)
            try:
                locked = filelock.lock_descriptor(fd, blocking=False)
                # The writer before us may have removed the file between our open and our lock: then we hold a lock on
                # a file that no one else will find, and try again.
                if locked and self._is_found(fd):
                    return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)
            if not locked:
                raise StoreError(f"{folder}: another writer is at work in this folder; wait until it ends.")
            return -1

    def _is_found(self, fd: int) -> bool:
        """Whether the open file still stands under its name."""
        try:
            return os.name == "nt" or os.fstat(fd).st_ino == self._path.stat().st_ino  # there open files stay
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Remove the file and drop the lock; a second call does nothing."""
        if self._fd < 0:
            return
        is_open = False
        try:
            self._path.unlink()  # before the lock is dropped, so that nobody locks a file that is about to go
        except PermissionError:
            is_open = True  # which Windows minds; whoever opened it meanwhile keeps it
        except OSError:
            pass
        os.close(self._fd)
        self._fd = -1
        if is_open:
            with contextlib.suppress(OSError):
                self._path.unlink()
