"""Copying rows out of shards: memory-mapped where that is safe and fast, else read by position."""

from __future__ import annotations

import ctypes
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from diffcore_gpu.documents import open_regular, why
from diffcore_gpu.errors import StoreError, clause
from diffcore_gpu.store.durable import named_os_errors, read_at
from diffcore_gpu.store.files import Watched, use_located
from diffcore_gpu.store.fingerprint import Int64Array
from diffcore_gpu.store.format import RAW, encoded_tensors, raw_tensors
from diffcore_gpu.store.manifest import FileEntry
from diffcore_gpu.store.provenance import Bytes, digest_of
from diffcore_gpu.store.tensorfile import TensorEntry, check_tensors, read_header

Reading: TypeAlias = Literal["map", "pread"]

_OPEN_FILES = 64  # at once, of a store


class RowCheck:
    """Checks each row's bytes against its digest when they are first read.

    Args:
        where: names the store in messages.
        digests: int64 [num_rows].
    """

    def __init__(self, where: str, digests: Int64Array) -> None:
        self._where = where
        self._digests = digests
        self._seen = np.zeros(len(digests), np.bool_)

    def new(self, rows: Int64Array) -> list[int]:
        """Positions, in rows int64 [n], of those that have not been checked."""
        return np.flatnonzero(~self._seen[rows]).tolist()

    def check(self, row: int, data: Bytes, shard: object) -> None:
        """Check the bytes of a row; `StoreError` names the shard's file where they are not what was written."""
        if digest_of(data) != self._digests[row]:
            raise StoreError(f"{shard}: damaged: row {row} of {self._where} is not the image that was written.")
        self._seen[row] = True


class ShardReader(Protocol):
    """How a store's rows are read.

    Attributes:
        tensors: one uint8 tensor [n_i, C, H, W] per shard, mapped; None: the rows cannot be seen as tensors.
        reading: "map" or "pread".
    """

    tensors: list[torch.Tensor] | None
    reading: Reading

    def copy(self, rows: Int64Array, out: torch.Tensor, check: RowCheck | None) -> None:
        """Copy the images of rows int64 [n], n ≥ 1, all in range, into contiguous `out` uint8 [n, C, H, W].

        Raises:
            StoreError: a file has changed since the store was opened, or `check` refuses a row.
        """
        ...

    def require_unchanged(self) -> None:
        """Look at every file that is in use; `StoreError` names one that is gone, cut short or another."""
        ...


def shard_entries(
    path: Path, shard: FileEntry, image_shape: tuple[int, int, int], version: int
) -> dict[str, TensorEntry]:
    """The header of a shard, checked against what `store.json` says."""
    entries = read_header(path, shard.size)
    if shard.codec == RAW:
        expected = raw_tensors(shard.rows, image_shape, columns=version == 1)
    else:
        data = entries.get("data")
        expected = encoded_tensors(shard.rows, 0 if data is None else data.end - data.begin)
    check_tensors(path, entries, expected)
    return entries


class MappedShards:
    """Raw shards, mapped into memory: no copy but the one that is asked for.

    A file that is cut short under its map ends the process when the missing part is touched (SIGBUS): each copy looks
    at the files before it, and what is left is a cut in the very moment of the copy.
    """

    reading: Reading = "map"

    def __init__(self, files: Watched, images: Sequence[TensorEntry], ends: Int64Array) -> None:
        self._files, self._ends = files, ends
        self._paths = [os.fspath(files.path(number)) for number in range(len(images))]
        self.tensors: list[torch.Tensor] | None = [
            _map(path, file.size)[entry.begin : entry.end].view(entry.shape)
            for path, file, entry in zip(self._paths, files.files, images, strict=True)
        ]
        self._gather = ShardGather(self.tensors, ends)

    def copy(self, rows: Int64Array, out: torch.Tensor, check: RowCheck | None) -> None:
        """See `ShardReader`."""
        numbers = np.searchsorted(self._ends, rows, side="right")
        for number in set(numbers.tolist()):
            self._files.require_unchanged(number, self._paths[number])
        self._gather.copy(rows, numbers, out)
        if check is not None:
            copied = out.numpy()
            for position in check.new(rows):
                check.check(int(rows[position]), copied[position].data, self._paths[numbers[position]])

    def require_unchanged(self) -> None:
        """See `ShardReader`."""
        for number, path in enumerate(self._paths):
            self._files.require_unchanged(number, path)


class FileShards:
    """Shards that are read by position, raw or encoded: a file that was cut short is an error, never a signal.

    At most 64 files are open at once. A file is opened when a row of it is first read.
    """

    reading: Reading = "pread"
    tensors: list[torch.Tensor] | None = None

    def __init__(self, files: Watched, image_shape: tuple[int, int, int], version: int, ends: Int64Array) -> None:
        self._files, self._image_shape, self._version, self._ends = files, image_shape, version, ends
        self._open: OrderedDict[int, _OpenShard] = OrderedDict()
        self._lock = threading.Lock()

    def copy(self, rows: Int64Array, out: torch.Tensor, check: RowCheck | None) -> None:
        """See `ShardReader`."""
        numbers = np.searchsorted(self._ends, rows, side="right")
        unchecked = set() if check is None else set(check.new(rows))
        target = out.numpy()
        for number in dict.fromkeys(numbers.tolist()):
            shard = self._shard(number)
            first = int(self._ends[number]) - self._files.files[number].rows
            for position in np.flatnonzero(numbers == number).tolist():
                row = int(rows[position])
                data = shard.read(row - first, target[position])
                if check is not None and position in unchecked:
                    check.check(row, data, shard.path)

    def require_unchanged(self) -> None:
        """See `ShardReader`."""
        with self._lock:
            shards = list(self._open.values())
        for shard in shards:
            shard.require_unchanged()

    def _shard(self, number: int) -> _OpenShard:
        with self._lock:
            shard = self._open.pop(number, None)
            if shard is None:
                shard = _OpenShard(self._files, number, self._image_shape, self._version)
                if len(self._open) >= _OPEN_FILES:
                    self._open.popitem(last=False)  # it is closed when the last copy out of it is over
            self._open[number] = shard
        shard.require_unchanged()
        return shard


class _OpenShard:
    """One open file; closed when nobody uses it any more."""

    def __init__(self, files: Watched, number: int, image_shape: tuple[int, int, int], version: int) -> None:
        self._files, self._number = files, number
        self._fd = -1
        self.path, self._fd = _open_located(files, number)
        self.require_unchanged()
        file = files.files[number]
        entries = shard_entries(self.path, file, image_shape, version)
        self._codec = file.codec
        data = entries["images" if file.codec == RAW else "data"]
        self._begin = data.begin
        if file.codec == RAW:
            self._size = int(np.prod(image_shape))
        else:
            offset = entries["offset"]
            self._offsets = np.frombuffer(self._read(offset.begin, offset.end - offset.begin), "<i8")
            if self._offsets[0] != 0 or self._offsets[-1] > data.end - data.begin or (np.diff(self._offsets) < 0).any():
                raise StoreError(f"{self.path}: damaged: its offsets do not rise from 0 to the end of its data.")

    def require_unchanged(self) -> None:
        """Look at the open file, and whether it is still what the store was opened with."""
        with named_os_errors(self.path, "cannot be read"):
            status = os.fstat(self._fd)
        self._files.require_unchanged(self._number, self.path, status)

    def read(self, place: int, out: npt.NDArray[np.uint8]) -> Bytes:
        """Read one row into `out` uint8 [C, H, W], and give its bytes as they are in the file."""
        if self._codec != RAW:
            raise StoreError(f"{self.path}: has images of codec {self._codec!r}, which this version cannot decode.")
        begin = self._begin + place * self._size
        if hasattr(os, "preadv"):
            with named_os_errors(self.path, "cannot be read"):
                count = os.preadv(self._fd, [out.data.cast("B")], begin)
            if count == self._size:
                return out.data
        data = self._read(begin, self._size)
        out[:] = np.frombuffer(data, np.uint8).reshape(out.shape)
        return data

    def _read(self, begin: int, size: int) -> bytes:
        with named_os_errors(self.path, "cannot be read"):
            data = read_at(self._fd, size, begin)
        if len(data) != size:
            raise StoreError(f"{self.path}: has been cut short since the store was opened.")
        return data

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


def _open_located(files: Watched, number: int) -> tuple[Path, int]:
    """The path and the descriptor of a file."""

    def open_it(path: Path) -> tuple[Path, int]:
        try:
            return path, open_regular(path)
        except FileNotFoundError:
            raise
        except (OSError, ValueError) as error:
            raise StoreError(f"{path}: cannot be read any more: {why(error)}.") from error

    try:
        return use_located(lambda: files.path(number), open_it)
    except FileNotFoundError as error:
        raise StoreError(f"{error.filename}: cannot be read any more: {why(error)}.") from error


def _map(path: str, size: int) -> torch.Tensor:
    # torch's own map keeps no file descriptor, unlike Python's mmap, which keeps one: a store may have more shards than
    # a process may have open files. It is private, hence writable to torch and read-only on disk.
    try:
        return torch.from_file(path, shared=False, size=size, dtype=torch.uint8)
    except RuntimeError as error:
        raise StoreError(f"{path}: cannot be mapped into memory: {clause(error)}.") from error


_threads_are_lost = False
"""Whether this process is a fork: OpenMP, which torch's threads come from, waits forever for them in a child."""


def _note_fork() -> None:
    global _threads_are_lost
    _threads_are_lost = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


class ShardGather:
    """Copies rows out of `shards`, uint8 [n_i, C, H, W], of which shard i ends before row `ends[i]`, int64.

    torch's `index_select` copies rows with several threads and without an interpreter between them, but out of one
    tensor only. So the shards are seen as one: a tensor over the address range from the first map to the end of the
    last, of which only the places of images are ever touched. Where the images' places are not multiples of 8 bytes
    (some small sizes), and in a forked process, numpy copies them one by one.
    """

    def __init__(self, shards: Sequence[torch.Tensor], ends: Int64Array) -> None:
        self._first_rows = ends - np.array([len(shard) for shard in shards], np.int64)
        self._arrays = [shard.numpy() for shard in shards]
        self._all_rows: torch.Tensor | None = None
        if shards and all(shard.data_ptr() % 8 == 0 and shard[0].numel() % 8 == 0 for shard in shards):
            self._words = shards[0][0].numel() // 8  # of 8 bytes, in an image
            first = min(shard.data_ptr() for shard in shards)
            size = max(shard.data_ptr() + shard.nbytes for shard in shards) - first
            addresses = (ctypes.c_uint8 * size).from_address(first)
            span = torch.from_numpy(np.ctypeslib.as_array(addresses)[: size // 8 * 8].view(np.int64))
            self._all_rows = span.as_strided((len(span) - self._words + 1, self._words), (1, 1))
            self._starts = np.array([(shard.data_ptr() - first) // 8 for shard in shards], np.int64)

    def copy(self, rows: Int64Array, numbers: Int64Array, out: torch.Tensor) -> None:
        """Copy the images of rows int64 [n], which lie in shards of these numbers, into `out` uint8 [n, C, H, W]."""
        places = rows - self._first_rows[numbers]
        if self._all_rows is not None and out.data_ptr() % 8 == 0 and not _threads_are_lost:
            words = torch.from_numpy(self._starts[numbers] + places * self._words)
            torch.index_select(self._all_rows, 0, words, out=out.view(len(out), -1).view(torch.int64))
            return
        target = out.numpy()
        for position, (number, place) in enumerate(zip(numbers.tolist(), places.tolist(), strict=True)):
            target[position] = self._arrays[number][place]
