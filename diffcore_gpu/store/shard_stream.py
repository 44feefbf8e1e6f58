"""The shards of a store in the making: images streamed to files that only grow."""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from diffcore_gpu.errors import StoreError
from diffcore_gpu.store.durable import (
    file_checksum,
    flush_data,
    named_os_errors,
    open_to_write,
    read_at,
    sync_folder,
    write_at,
)
from diffcore_gpu.store.format import RAW, Tensors, encoded_tensors, raw_tensors
from diffcore_gpu.store.provenance import Bytes, digest_of
from diffcore_gpu.store.tensorfile import DATA_START, build_header, file_bytes

_PENDING_BYTES = 4 << 20  # images gathered in memory before a write
_AGAIN = "start again with overwrite=True"


def part_name(index: int) -> str:
    """Name of shard `index` of the store while its content is not known."""
    return f"counterparts-{index:05d}.part"


def shard_form(codec: str, image_shape: tuple[int, int, int], bounds: Sequence[int]) -> tuple[Tensors, bytes]:
    """The tensors of a shard, and the bytes behind its images.

    Args:
        codec: of the images.
        image_shape: (C, H, W).
        bounds: where each image begins, and where the last one ends, counted from the first, [rows + 1].
    """
    rows = len(bounds) - 1
    if codec == RAW:
        return raw_tensors(rows, image_shape), b""
    return encoded_tensors(rows, int(bounds[-1])), np.asarray(bounds, "<i8").tobytes()


class ShardStream:
    """Writes the bytes of images by row number, shard after shard.

    Everything is written at the position that follows from the rows before it, so a step that was interrupted can
    simply be done again. Rows count from 0 here, also where the store has others before them.

    Args:
        folder: where the files grow.
        image_shape: (C, H, W).
        rows_per_shard: rows in each shard but the last.
        codec: how the images are encoded.
        first: number in the store of the first shard.

    Attributes:
        finished: size in bytes and SHA-256 of each complete shard.
    """

    def __init__(
        self, folder: Path, image_shape: tuple[int, int, int], rows_per_shard: int, codec: str, first: int = 0
    ) -> None:
        self.finished: list[tuple[int, str]] = []
        self._folder = folder
        self._image_shape = image_shape
        self._rows_per_shard = rows_per_shard
        self._codec = codec
        self._first = first
        # Of the shard being written: where each of its rows ends, and what of them is not in the file yet.
        self._ends = array("q", [0])
        self._pending = bytearray()
        self._written = 0  # bytes in the file
        self._part = -1

    def resume(self, records: npt.NDArray[Any], finished: Sequence[tuple[int, str]]) -> None:
        """Take up the shards where these rows [n] are safe and these shards complete; what lies beyond is removed.

        Raises:
            StoreError: a shard, or a row of the one that was being written, is not what was written.
        """
        with named_os_errors(self._folder):
            last = part_name(self._first + len(finished))
            for path in self._folder.glob("counterparts-*.part"):
                if path.name > last:
                    path.unlink()
        for index, (size, checksum) in enumerate(finished):
            path = self._folder / part_name(self._first + index)
            with named_os_errors(path, "cannot be read"):
                intact = path.stat().st_size == size
            if not intact or file_checksum(path) != checksum:
                raise StoreError(f"{path}: damaged: it is not the shard that was finished; {_AGAIN}.")
        self.finished = list(finished)
        rows = records[len(finished) * self._rows_per_shard :]
        self._ends = array("q", [0, *np.cumsum(rows["size"], dtype=np.int64).tolist()])
        self._written = self._ends[-1]
        path = self._open_part()
        with named_os_errors(path):
            for number, (begin, end, digest) in enumerate(
                zip(self._ends[:-1], self._ends[1:], rows["digest"].tolist(), strict=True)
            ):
                if digest_of(read_at(self._part, end - begin, DATA_START + begin)) != digest:
                    row = len(finished) * self._rows_per_shard + number
                    raise StoreError(f"{path}: damaged: row {row} is not the image that was written; {_AGAIN}.")
            os.ftruncate(self._part, DATA_START + self._written if len(rows) else 0)

    def rows_here(self, num_rows: int) -> int:
        """How many, of `num_rows`, lie in the shard being written."""
        return min(num_rows - len(self.finished) * self._rows_per_shard, self._rows_per_shard)

    def is_full(self, num_rows: int) -> bool:
        """Whether the shard being written has all of its rows."""
        return self.rows_here(num_rows) == self._rows_per_shard

    def put(self, row: int, data: Bytes) -> None:
        """Hand over the bytes of `row`, which is the next one or the last one again."""
        place = row - len(self.finished) * self._rows_per_shard
        if place < len(self._ends) - 1:
            self._ends = self._ends[: place + 1]
            del self._pending[self._ends[-1] - self._written :]
        view = memoryview(data).cast("B")
        if self._pending and len(self._pending) + len(view) > _PENDING_BYTES:
            self.write_out(row)
        self._pending += view
        self._ends.append(self._ends[-1] + len(view))

    def write_out(self, num_rows: int) -> None:
        """Write the images of the rows up to `num_rows` from memory to the file, without flushing it."""
        end = self._ends[self.rows_here(num_rows)]
        if end <= self._written:
            return
        path, size = self._open_part(), end - self._written
        with named_os_errors(path), memoryview(self._pending)[:size] as data:
            write_at(self._part, data, DATA_START + self._written)
        del self._pending[:size]  # what was put beyond num_rows stays pending
        self._written = end

    def sync(self) -> None:
        """Flush what has been written to the disk."""
        if self._part >= 0:
            with named_os_errors(self._folder / part_name(self._first + len(self.finished))):
                flush_data(self._part)
                sync_folder(self._folder)

    def finish(self, num_rows: int) -> None:
        """Complete the shard being written, which has the rows up to `num_rows`, and go on to the next."""
        self.write_out(num_rows)
        ends = self._ends[: self.rows_here(num_rows) + 1]
        tensors, behind = shard_form(self._codec, self._image_shape, ends)
        path = self._open_part()
        with named_os_errors(path):
            write_at(self._part, behind, DATA_START + ends[-1])
            write_at(self._part, build_header(tensors), 0)
            os.fsync(self._part)
            sync_folder(self._folder)
        checksum = file_checksum(path)
        self.close()
        self.finished.append((file_bytes(tensors), checksum))
        self._ends, self._written = array("q", [0]), 0
        self._pending.clear()

    def close(self) -> None:
        """Close the file being written; what was not written out stays in memory."""
        if self._part >= 0:
            os.close(self._part)
            self._part = -1

    def _open_part(self) -> Path:
        path = self._folder / part_name(self._first + len(self.finished))
        if self._part < 0:
            with named_os_errors(path):
                self._part = open_to_write(path)
        return path
