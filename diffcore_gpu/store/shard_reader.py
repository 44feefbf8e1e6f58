"""Copying rows out of shards: memory-mapped where that is safe and fast, else read by position and decoded."""

from __future__ import annotations

import ctypes
import math
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from diffcore_gpu.documents import open_regular, why
from diffcore_gpu.errors import StoreError, clause
from diffcore_gpu.store.codecs import CODECS, DecodeError
from diffcore_gpu.store.durable import named_os_errors, read_at
from diffcore_gpu.store.files import Watched, use_located
from diffcore_gpu.store.fingerprint import Int64Array
from diffcore_gpu.store.format import RAW, encoded_tensors, raw_tensors
from diffcore_gpu.store.manifest import FileEntry
from diffcore_gpu.store.provenance import Bytes, digest_of
from diffcore_gpu.store.row_threads import for_each
from diffcore_gpu.store.tensorfile import TensorEntry, check_tensors, read_header

Reading: TypeAlias = Literal["map", "pread"]

_OPEN_FILES = 64  # kept open, of a store
_AT_ONCE = 32  # shards of which one call reads at the same time


class RowCheck:
    """Checks each row's bytes against its digest when they are first read.

    Args:
        where: names the store in messages.
        digests: int64 [num_rows].
        seen: bool [num_rows], which rows were checked; in shared memory, so that what one worker of a `DataLoader` has
            checked none of the others checks again, nor one of a later epoch. None: none was.
    """

    def __init__(self, where: str, digests: Int64Array, seen: torch.Tensor | None = None) -> None:
        self._where = where
        self._digests = digests
        self.seen = torch.zeros(len(digests), dtype=torch.bool).share_memory_() if seen is None else seen
        self._seen = self.seen.numpy()

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

    def row_bytes(self, rows: Int64Array, check: RowCheck | None) -> list[bytes]:
        """The bytes of rows int64 [n], all in range, as their shards hold them; raises as `copy` does."""
        ...

    def require_unchanged(self, numbers: Iterable[int] | None = None) -> None:
        """Look at the files that are in use, of these numbers or (None) all; `StoreError` names one that has changed.

        That is one that is gone, was cut short, or is another file.
        """
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

    def row_bytes(self, rows: Int64Array, check: RowCheck | None) -> list[bytes]:
        """See `ShardReader`."""
        if not len(rows) or not self.tensors:
            return []
        out = torch.empty((len(rows), *self.tensors[0].shape[1:]), dtype=torch.uint8)
        self.copy(rows, out, check)
        return [image.tobytes() for image in out.numpy()]

    def require_unchanged(self, numbers: Iterable[int] | None = None) -> None:
        """See `ShardReader`."""
        for number in range(len(self._paths)) if numbers is None else numbers:
            self._files.require_unchanged(number, self._paths[number])


_file_shards: weakref.WeakSet[FileShards] = weakref.WeakSet()


class FileShards:
    """Shards that are read by position, raw or encoded: a file that was cut short is an error, never a signal.

    Rows are read and decoded in the threads of `for_each`. About 100 files are open at most. A file is opened when a
    row of it is first read.
    """

    reading: Reading = "pread"
    tensors: list[torch.Tensor] | None = None

    def __init__(self, files: Watched, image_shape: tuple[int, int, int], version: int, ends: Int64Array) -> None:
        self._files, self._image_shape, self._version, self._ends = files, image_shape, version, ends
        self._open: OrderedDict[int, _OpenShard] = OrderedDict()
        self._layouts: dict[int, _Layout] = {}
        self._lock = threading.Lock()
        _file_shards.add(self)

    def renew_lock(self) -> None:
        """In a forked process: the thread that held the lock, if one did, is not there to give it back."""
        self._lock = threading.Lock()

    def copy(self, rows: Int64Array, out: torch.Tensor, check: RowCheck | None) -> None:
        """See `ShardReader`."""
        target = out.numpy()

        def read(position: int, row: int, shard: _OpenShard, place: int) -> Bytes:
            return shard.read(place, row, target[position])

        self._for_each(rows, read, check)

    def row_bytes(self, rows: Int64Array, check: RowCheck | None) -> list[bytes]:
        """See `ShardReader`."""
        found = [b""] * len(rows)

        def read(position: int, row: int, shard: _OpenShard, place: int) -> Bytes:
            found[position] = shard.row_bytes(place)
            return found[position]

        self._for_each(rows, read, check)
        return found

    def _for_each(
        self, rows: Int64Array, read: Callable[[int, int, _OpenShard, int], Bytes], check: RowCheck | None
    ) -> None:
        """Call read(position, row, shard, place in it) for each of rows int64 [n], and check the bytes it gives."""
        numbers = np.searchsorted(self._ends, rows, side="right")
        unchecked = set() if check is None else set(check.new(rows))
        distinct = list(dict.fromkeys(numbers.tolist()))
        for begin in range(0, len(distinct), _AT_ONCE):
            shards = {number: self._shard(number) for number in distinct[begin : begin + _AT_ONCE]}
            positions = np.flatnonzero(np.isin(numbers, list(shards))).tolist()

            def job(index: int, shards: dict[int, _OpenShard] = shards, positions: list[int] = positions) -> None:
                position = positions[index]
                row, number = int(rows[position]), int(numbers[position])
                shard = shards[number]
                data = read(position, row, shard, row - int(self._ends[number]) + self._files.files[number].rows)
                if check is not None and position in unchecked:
                    check.check(row, data, shard.path)

            for_each(job, len(positions))

    def require_unchanged(self, numbers: Iterable[int] | None = None) -> None:
        """See `ShardReader`."""
        wanted = None if numbers is None else set(numbers)
        with self._lock:
            shards = [shard for number, shard in self._open.items() if wanted is None or number in wanted]
        for shard in shards:
            shard.require_unchanged()

    def _shard(self, number: int) -> _OpenShard:
        with self._lock:
            shard, known = self._open.get(number), self._layouts.get(number)
        if shard is None:  # opened without the lock: it may have to come from afar, and a fork would keep it locked
            shard = _OpenShard(self._files, number, self._image_shape, self._version, known)
        with self._lock:
            shard = self._open.setdefault(number, shard)  # or another thread opened it meanwhile
            self._open.move_to_end(number)
            self._layouts[number] = shard.layout
            if len(self._open) > _OPEN_FILES:
                self._open.popitem(last=False)  # it is closed when the last copy out of it is over
        shard.require_unchanged()
        return shard


class _Layout(NamedTuple):
    """Where the rows of a shard lie: row i of them from begin + bounds[i] to begin + bounds[i + 1]."""

    begin: int
    bounds: Int64Array


class _OpenShard:
    """One open file; closed when nobody uses it any more.

    Args:
        files: of the store.
        number: of this one.
        image_shape: (C, H, W).
        version: of the store's format.
        layout: where its rows lie, if that was read before.
    """

    def __init__(
        self, files: Watched, number: int, image_shape: tuple[int, int, int], version: int, layout: _Layout | None
    ) -> None:
        self._files, self._number = files, number
        self._fd = -1
        self.path, self._fd = _open_located(files, number)
        self.require_unchanged()
        file = files.files[number]
        self._codec = CODECS[file.codec]()
        self.layout = layout or self._read_layout(shard_entries(self.path, file, image_shape, version), image_shape)

    def _read_layout(self, entries: dict[str, TensorEntry], image_shape: tuple[int, int, int]) -> _Layout:
        if "images" in entries:
            images = entries["images"]
            return _Layout(images.begin, np.arange(images.shape[0] + 1, dtype=np.int64) * math.prod(image_shape))
        data, offset = entries["data"], entries["offset"]
        bounds = np.frombuffer(self._read(offset.begin, offset.end - offset.begin), "<i8")
        if bounds[0] != 0 or bounds[-1] != data.end - data.begin or (np.diff(bounds) < 0).any():
            raise StoreError(f"{self.path}: damaged: its offsets do not rise from 0 to the end of its data.")
        return _Layout(data.begin, bounds)

    def require_unchanged(self) -> None:
        """Look at the open file, and whether it is still what the store was opened with."""
        with named_os_errors(self.path, "cannot be read"):
            status = os.fstat(self._fd)
        self._files.require_unchanged(self._number, self.path, status)

    def read(self, place: int, row: int, out: npt.NDArray[np.uint8]) -> Bytes:
        """Read the image of a row, of this place in the shard, into `out` uint8 [C, H, W], and give its bytes."""
        if self._codec.name == RAW and hasattr(os, "preadv"):
            begin = self.layout.begin + int(self.layout.bounds[place])
            with named_os_errors(self.path, "cannot be read"):
                count = os.preadv(self._fd, [out.data.cast("B")], begin)
            if count == out.nbytes:
                return out.data
        data = self.row_bytes(place)
        try:
            self._codec.decode(data, out)
        except DecodeError as error:
            raise StoreError(f"{self.path}: damaged: row {row} cannot be decoded: {clause(error)}.") from error
        return data

    def row_bytes(self, place: int) -> bytes:
        """The bytes of the row of this place, as they are in the file."""
        begin, end = self.layout.bounds[place : place + 2].tolist()
        return self._read(self.layout.begin + begin, end - begin)

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
    for shards in _file_shards:
        shards.renew_lock()


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
