"""Files of remote stores on this machine: fetched once, by one process, kept within a bound, and checked before use.

A file lies under its SHA-256, so stores that share a shard share the file. Beside it lies a small stamp: size,
modification time and inode as they were when the bytes were last hashed. A file that has another size, time or inode
than its stamp is hashed again, and fetched again if it is wrong. The stamp's own time of modification is when the file
was last asked for; where room is needed, the files that were asked for longest ago go first.

What another process has open is removed like anything else: where the system is POSIX it stays readable, and takes its
place on the disk, until it is closed there.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from diffcore_gpu.documents import read_json
from diffcore_gpu.errors import StoreError
from diffcore_gpu.store.durable import file_checksum, named_os_errors
from diffcore_gpu.store.manifest import FileEntry
from diffcore_gpu.store.remote.location import RemoteFolder
from diffcore_gpu.store.remote.locks import locked, locked_if_free
from diffcore_gpu.store.remote.transfer import PARTIAL_SUFFIX, Told, download

FOLDER_VARIABLE = "DIFFCORE_CACHE"
"""The environment's variable with the cache's folder."""
SHARE_OF_DISK = 0.5
"""Of what is free on the disk, the cache's own files counted as free: the bound where the user gives none."""
PATIENCE = 600
"""How many seconds to wait for another process that fetches a file, as long as nothing of it arrives."""

_POLL = 0.05
_MAX_STAMP = 4096
_STAMP_SUFFIX = ".stamp"
_KEPT = re.compile(rf"[0-9a-f]{{64}}(?:{re.escape(PARTIAL_SUFFIX)})?")


def cache_folder(folder: str | Path | None = None) -> Path:
    """The cache's folder: the one given, that of `$DIFFCORE_CACHE`, or `~/.cache/diffcore-gpu`; absolute."""
    return Path(folder or os.environ.get(FOLDER_VARIABLE) or Path.home() / ".cache" / "diffcore-gpu").absolute()


class FileCache:
    """The files of remote stores that are on this machine. Several processes and threads may use one folder.

    Args:
        folder: where the files lie; None: see `cache_folder`.
        cache_bytes: how many bytes they may take; None: a share of what is free on the disk.

    Raises:
        StoreError: the bound is below 1.
    """

    def __init__(self, folder: str | Path | None = None, cache_bytes: int | None = None) -> None:
        if cache_bytes is not None and cache_bytes < 1:
            raise StoreError(f"cache_bytes is {cache_bytes}; it must be at least 1.")
        self.folder = cache_folder(folder)
        self.cache_bytes = cache_bytes
        self._files, self._locks = self.folder / "files", self.folder / "locks"

    def fetch(
        self, source: RemoteFolder, entry: FileEntry, told: Told | None = None, *, hash_again: bool = False
    ) -> Path:
        """A file of a remote store on this machine, fetched if it is not there or not right.

        Args:
            source: the store's folder.
            entry: the file's name, size and SHA-256.
            told: hears of the progress.
            hash_again: hash a file that is there, also where its stamp says that this was done.

        Returns:
            Where it lies. Another process may remove it for want of room: open it soon, and ask again if it is gone.

        Raises:
            StoreError: it cannot be fetched (see `download`), does not fit into the cache, or the process that fetches
                it has been stuck for long.
        """
        path = self._files / entry.checksum
        if not hash_again and self.holds(entry):
            return path
        stuck = f"{source.shown(entry.name)}: another process has been fetching it"
        beside = path.with_name(path.name + PARTIAL_SUFFIX)
        with locked(self._lock_of(entry.checksum), stuck, PATIENCE, lambda: _size_of(beside)):
            # Nobody removes it while it is locked. Someone else may have fetched it while this waited.
            if not self._is_right(path, entry, hash_again):
                self._reserve(source, entry)
                download(source, entry, path, told)
                _remove(beside)
                _stamp(path)
        return path

    # What is here

    def holds(self, entry: FileEntry) -> bool:
        """Whether a file is here and was hashed as it is now; if so, it counts as used."""
        path = self._files / entry.checksum
        try:
            status = path.stat()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StoreError(f"{path}: cannot be read: {error.strerror or error}.") from error
        if status.st_size != entry.size or not _is_stamped(path, status):
            return False
        with contextlib.suppress(OSError):  # it is removed this moment, or the folder is read-only
            os.utime(_stamp_of(path))
        return True

    def _is_right(self, path: Path, entry: FileEntry, hash_again: bool) -> bool:
        """Whether a file is here and right, once it was hashed where that is needed; a wrong one is removed."""
        if not hash_again and self.holds(entry):
            return True
        if _size_of(path) == entry.size and path.exists() and file_checksum(path) == entry.checksum:
            _stamp(path)
            return True
        _remove(path)
        return False

    # Room

    def _reserve(self, source: RemoteFolder, entry: FileEntry) -> None:
        """Remove what was used longest ago until the file fits, and note that it comes."""
        beside = self._files / (entry.checksum + PARTIAL_SUFFIX)
        with named_os_errors(self.folder):
            self._files.mkdir(parents=True, exist_ok=True)
        until = time.monotonic() + PATIENCE
        while not self._has_room(source, entry, beside):
            if time.monotonic() > until:
                raise StoreError(
                    f"{source.shown(entry.name)}: the cache in {self.folder} has had no room for {PATIENCE} s: other "
                    "processes fetch as much as it may hold; give more cache_bytes."
                )
            time.sleep(_POLL)

    def _has_room(self, source: RemoteFolder, entry: FileEntry, beside: Path) -> bool:
        with locked(self._locks / "room", f"{self.folder}: another process has been making room", PATIENCE):
            kept = sorted((file for file in self._kept() if file.path != beside), key=lambda file: file.used)
            taken = sum(file.size for file in kept)
            bound = self._bound(taken)
            if entry.size > bound:
                raise StoreError(
                    f"{source.shown(entry.name)}: has {entry.size} bytes, and the cache in {self.folder} may take "
                    f"{bound}; give more cache_bytes, or another folder by ${FOLDER_VARIABLE}."
                )
            for file in kept:
                if taken + entry.size > bound:
                    taken -= self._remove_if_free(file)
            if taken + entry.size > bound:
                return False
            _write_stamp(beside, entry.size)
            return True

    def _bound(self, taken: int) -> int:
        if self.cache_bytes is not None:
            return self.cache_bytes
        return int(SHARE_OF_DISK * (shutil.disk_usage(self._files).free + taken))

    def _kept(self) -> list[_Kept]:
        """What takes room: whole files, those that arrive now, and those whose arrival broke off."""
        kept = []
        with named_os_errors(self._files, "cannot be read"):
            for path in self._files.iterdir():
                if _KEPT.fullmatch(path.name):
                    with contextlib.suppress(FileNotFoundError):
                        kept.append(self._look_at(path))
        return kept

    def _look_at(self, path: Path) -> _Kept:
        status = path.stat()
        used, size = status.st_mtime_ns, status.st_size
        with contextlib.suppress(OSError, ValueError):  # without a stamp
            used = _stamp_of(path).stat().st_mtime_ns
            if path.suffix == PARTIAL_SUFFIX:
                with locked_if_free(self._lock_of(path.stem)) as nobody_fetches_it:
                    if not nobody_fetches_it:
                        size = max(size, int(read_json(_stamp_of(path), _MAX_STAMP)))
        return _Kept(path, size, used)

    def _remove_if_free(self, file: _Kept) -> int:
        """Remove a file unless some process fetches or checks it now, and give the room that this made."""
        with locked_if_free(self._lock_of(file.path.stem)) as free:
            if free:
                _remove(file.path)
            return file.size if free else 0

    def _lock_of(self, checksum: str) -> Path:
        return self._locks / checksum


@dataclass(frozen=True)
class _Kept:
    path: Path
    size: int
    """In bytes, of a file that arrives as it will be."""
    used: int


def _stamp_of(path: Path) -> Path:
    return path.with_name(path.name + _STAMP_SUFFIX)


def _marks(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def _stamp(path: Path) -> None:
    """Note that the file, as it is now, was hashed and is right."""
    with named_os_errors(path, "cannot be read"):
        marks = _marks(path.stat())
    _write_stamp(path, marks)


def _write_stamp(path: Path, value: object) -> None:
    stamp = _stamp_of(path)
    beside = stamp.with_name(f"{stamp.name}.{os.getpid()}-{threading.get_ident()}")  # others may write it right now
    with named_os_errors(stamp):
        beside.write_text(json.dumps(value))
        beside.replace(stamp)


def _is_stamped(path: Path, status: os.stat_result) -> bool:
    try:
        return bool(read_json(_stamp_of(path), _MAX_STAMP) == _marks(status))
    except (OSError, ValueError):
        return False  # then it is hashed


def _remove(path: Path) -> None:
    for gone in (_stamp_of(path), path):
        with contextlib.suppress(FileNotFoundError, PermissionError):  # Windows keeps what is open
            gone.unlink()


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
