"""The shards of a store in the making: images streamed to their final place, the small arrays at the end."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from diffcore_gpu.errors import StoreError
from diffcore_gpu.store.durable import file_checksum, flush_data, named_os_errors, open_to_write, sync_folder, write_at
from diffcore_gpu.store.format import ROW_COLUMNS, shard_tensors
from diffcore_gpu.store.tables import Table
from diffcore_gpu.store.tensorfile import DATA_START, build_header, file_bytes
from diffcore_gpu.store.workspace import part_name

_PENDING_BYTES = 4 << 20  # images gathered in memory before a write


class ShardStream:
    """Writes images by row number, shard after shard.

    Everything is written at the position that follows from the row number, so a step that was interrupted can simply be
    done again.

    Attributes:
        finished: size in bytes and SHA-256 of each complete shard.
    """

    def __init__(self, folder: Path, image_shape: tuple[int, int, int], rows_per_shard: int) -> None:
        self.finished: list[tuple[int, str]] = []
        self._folder = folder
        self._image_shape = image_shape
        self._image_bytes = math.prod(image_shape)
        self._rows_per_shard = rows_per_shard
        pending = max(1, min(_PENDING_BYTES // self._image_bytes, rows_per_shard))
        self._pending = np.empty((pending, *image_shape), np.uint8)
        self._written = 0  # rows [0, _written) are in the files, those after it in _pending
        self._part = -1

    def resume(self, num_rows: int, finished: list[tuple[int, str]]) -> None:
        """Take up the shards where `num_rows` rows are safe and these shards complete; what lies beyond is removed."""
        self.finished = list(finished)
        self._written = num_rows
        current = len(finished)
        with named_os_errors(self._folder):
            for path in self._folder.glob("counterparts-*.part"):
                if path.name > part_name(current):
                    path.unlink()
        rows = num_rows - current * self._rows_per_shard
        path = self._open_part()
        keep = DATA_START + rows * self._image_bytes if rows else 0
        with named_os_errors(path):
            if os.fstat(self._part).st_size < keep:
                raise StoreError(f"{path}: damaged: shorter than the {keep} bytes that were safe; use overwrite=True.")
            os.ftruncate(self._part, keep)

    def shard_rows(self, num_rows: int) -> range:
        """The rows, of `num_rows`, that lie in the shard being written."""
        begin = len(self.finished) * self._rows_per_shard
        return range(begin, min(begin + self._rows_per_shard, num_rows))

    def is_full(self, num_rows: int) -> bool:
        """Whether the shard being written has all of its rows."""
        return len(self.shard_rows(num_rows)) == self._rows_per_shard

    def put(self, row: int, image: npt.NDArray[np.uint8]) -> None:
        """Hand over the image [C, H, W] of `row`, which is the next one or the last one again."""
        if row - self._written == len(self._pending):
            self.write_out(row)
        self._pending[row - self._written] = image

    def write_out(self, num_rows: int) -> None:
        """Write the images of the rows up to `num_rows` from memory to the file, without flushing it."""
        count = num_rows - self._written
        if count <= 0:
            return
        path = self._open_part()
        begin = len(self.finished) * self._rows_per_shard
        with named_os_errors(path):
            write_at(self._part, self._pending[:count].data, DATA_START + (self._written - begin) * self._image_bytes)
        # what was put beyond num_rows stays pending
        self._pending[: len(self._pending) - count] = self._pending[count:].copy()
        self._written = num_rows

    def sync(self) -> None:
        """Flush what has been written to the disk."""
        if self._part >= 0:
            with named_os_errors(self._folder / part_name(len(self.finished))):
                flush_data(self._part)
                sync_folder(self._folder)

    def finish(self, rows: Table) -> None:
        """Complete the shard being written, from the records of all rows so far, and go on to the next."""
        self.write_out(len(rows))
        here = self.shard_rows(len(rows))
        tensors = shard_tensors(len(here), self._image_shape)
        records = rows.view(here.start, here.stop)
        columns = b"".join(records[name].tobytes() for name in ROW_COLUMNS)
        path = self._open_part()
        with named_os_errors(path):
            write_at(self._part, columns, DATA_START + len(here) * self._image_bytes)
            write_at(self._part, build_header(tensors), 0)
            os.fsync(self._part)
            sync_folder(self._folder)
        checksum = file_checksum(path)
        self.close()
        self.finished.append((file_bytes(tensors), checksum))

    def close(self) -> None:
        """Close the file being written; what was not written out stays in memory."""
        if self._part >= 0:
            os.close(self._part)
            self._part = -1

    def _open_part(self) -> Path:
        path = self._folder / part_name(len(self.finished))
        if self._part < 0:
            with named_os_errors(path):
                self._part = open_to_write(path)
        return path
