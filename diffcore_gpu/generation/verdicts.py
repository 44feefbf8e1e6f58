"""The verdict on every image that was generated, in order: an append-only file beside the store.

It says what the store cannot: which attempts were discarded. One record of 15 bytes for each image, so a batch costs
what it appends, however long the run. The store's metadata say how many records count, and their CRC-32; whatever lies
beyond was lost with the process that wrote it.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from diffcore_gpu.errors import GenerationError
from diffcore_gpu.store.durable import flush_data, make_folder, named_os_errors, open_to_write, sync_folder, write_at

RECORD = np.dtype([("task", "<i8"), ("attempt", "<i2"), ("accepted", "?"), ("similarity", "<f4")])
"""Of one image: the task, the attempt, the verdict, and S."""

FILE_NAME = "verdicts.bin"

Records = npt.NDArray[Any]


class Journal:
    """The file of verdicts of one run; one process writes at a time, which the store's own lock sees to.

    Args:
        folder: where the file is; it is made.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        with named_os_errors(self.path):
            make_folder(folder)
            self._fd = open_to_write(self.path)
        self._count = 0
        self._crc = 0
        self._new: list[Records] = []

    def restore(self, mark: Mapping[str, Any], mend: str = "start again with --overwrite") -> Records:
        """Go back to a durable point, and give the records up to it.

        Args:
            mark: as `save` returned it, and a file kept it since; empty: to the beginning.
            mend: what is to be done where the file is another one.

        Raises:
            GenerationError: the file has less than that, or something else.
        """
        count, crc = mark.get("images", 0), mark.get("crc32", 0)
        with named_os_errors(self.path):
            data = self._read(count)
            if data is None or zlib.crc32(data) != crc:
                raise GenerationError(
                    f"{self.path} is not the journal of this store: it was changed or removed; {mend}."
                )
            os.ftruncate(self._fd, len(data))
            sync_folder(self.path.parent)
        self._count, self._crc = count, crc
        return np.frombuffer(data, RECORD)

    def _read(self, count: Any) -> bytes | None:
        """The first records; None: the file has less, or is none."""
        status = os.fstat(self._fd)
        length = count * RECORD.itemsize if type(count) is int and count >= 0 else -1
        if not stat.S_ISREG(status.st_mode) or not 0 <= length <= status.st_size:
            return None
        with os.fdopen(os.dup(self._fd), "rb") as file:
            file.seek(0)
            return file.read(length)

    def add(self, records: Records) -> None:
        """Add verdicts, which `save` makes durable."""
        self._new.append(records)

    def save(self) -> dict[str, int]:
        """Write and flush what was added, and give the mark of this point for the store's metadata."""
        if self._new:
            data = np.concatenate(self._new).tobytes()
            with named_os_errors(self.path):
                write_at(self._fd, data, self._count * RECORD.itemsize)
                flush_data(self._fd)
            self._count += len(data) // RECORD.itemsize
            self._crc = zlib.crc32(data, self._crc)
            self._new = []
        return {"images": self._count, "crc32": self._crc}

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
