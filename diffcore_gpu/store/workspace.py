"""The folder `unfinished/` of a store in the making, and the durable point that a writer can return to.

The files only grow: the images of each shard, streamed to their final place, with the small arrays behind them at the
end; records of the rows, records of the pairs, the prompts. `progress.json`, replaced atomically after they have been
flushed, says how much of each counts. Whatever lies beyond was lost with the process that wrote it, and is cut off when
the next writer resumes.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from diffcore_gpu.errors import StoreError, clause
from diffcore_gpu.store.durable import (
    file_checksum,
    flush_data,
    named_os_errors,
    open_to_write,
    replace_file,
    sync_folder,
    write_at,
)
from diffcore_gpu.store.format import MANIFEST_NAME, PAIRS_NAME, ROW_COLUMNS, read_manifest, shard_tensors
from diffcore_gpu.store.tables import PAIR, ROW, Table
from diffcore_gpu.store.tensorfile import DATA_START, build_header, file_bytes

FOLDER_NAME = "unfinished"
SETTINGS_NAME = "settings.json"
PROGRESS_NAME = "progress.json"
LOG_NAMES = {"rows": "rows.bin", "pairs": "pairs.bin", "prompts": "prompts.jsonl"}

_PENDING_BYTES = 4 << 20  # images gathered in memory before a write


def part_name(index: int) -> str:
    """Name of shard `index` while the number of shards is not known."""
    return f"counterparts-{index:05d}.part"


@dataclass
class Progress:
    """A durable point: what is safe on disk.

    Attributes:
        num_rows, num_pairs, num_prompts: how many of each.
        log_bytes, log_crc: for each of the logs `rows`, `pairs` and `prompts`, the bytes that count and their CRC-32.
        shards: [size in bytes, SHA-256] of each shard that is complete.
        updates: what `update_metadata` has been given.
    """

    num_rows: int = 0
    num_pairs: int = 0
    num_prompts: int = 0
    log_bytes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LOG_NAMES, 0))
    log_crc: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LOG_NAMES, 0))
    shards: list[tuple[int, str]] = field(default_factory=list)
    updates: dict[str, Any] = field(default_factory=dict)

    @property
    def counts(self) -> tuple[int, int, int]:
        """Rows, pairs and prompts."""
        return self.num_rows, self.num_pairs, self.num_prompts


class Workspace:
    """The folder `unfinished/` inside the store's folder: its logs, its settings and the last durable point."""

    def __init__(self, store_folder: Path) -> None:
        self.folder = store_folder / FOLDER_NAME
        self.progress = Progress()
        self._logs: dict[str, int] = {}

    def create(self, settings: dict[str, Any]) -> None:
        """Start empty, whatever was there; from then on the work can be resumed by a writer with equal `settings`."""
        with named_os_errors(self.folder):
            # without its settings the folder counts as empty, so they go first
            (self.folder / SETTINGS_NAME).unlink(missing_ok=True)
            if self.folder.exists():
                shutil.rmtree(self.folder)
            self.folder.mkdir()
            sync_folder(self.folder.parent)
        self._open_logs()
        self._replace_progress(Progress())
        replace_file(self.folder / SETTINGS_NAME, json.dumps(settings, allow_nan=False).encode())

    def settings(self) -> dict[str, Any] | None:
        """The settings that the work was begun with; None if there is no work to resume."""
        path = self.folder / SETTINGS_NAME
        return read_json(path) if path.exists() else None

    def resume(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any], list[str]]:
        """Return to the last durable point: cut off what lies beyond it, and give the rows, pairs and prompts up to it.

        Raises:
            StoreError: if a file of the folder is damaged.
        """
        path = self.folder / PROGRESS_NAME
        try:
            self.progress = Progress(**read_json(path))
            self.progress.shards = [(int(size), str(checksum)) for size, checksum in self.progress.shards]
            self._open_logs()
            logs = {name: self._cut_log(name) for name in LOG_NAMES}
            rows, pairs = np.frombuffer(logs["rows"], ROW), np.frombuffer(logs["pairs"], PAIR)
            prompts = [str(json.loads(line)) for line in logs["prompts"].splitlines()]
        except (TypeError, ValueError, KeyError) as error:
            raise StoreError(f"{path}: damaged ({clause(error)}); start again with overwrite=True.") from error
        if (len(rows), len(pairs), len(prompts)) != self.progress.counts:
            raise StoreError(
                f"{path}: damaged: it disagrees with the files beside it; start again with overwrite=True."
            )
        return rows, pairs, prompts

    def _open_logs(self) -> None:
        for name, file_name in LOG_NAMES.items():
            path = self.folder / file_name
            with named_os_errors(path):
                self._logs[name] = open_to_write(path)

    def _cut_log(self, name: str) -> bytes:
        """Cut a log to the part that counts, and return that, checked against its CRC-32."""
        path, size = self.folder / LOG_NAMES[name], self.progress.log_bytes[name]
        with named_os_errors(path):
            data = path.read_bytes()[:size]
            if zlib.crc32(data) != self.progress.log_crc[name]:
                raise StoreError(f"{path}: damaged: its checksum differs; start again with overwrite=True.")
            os.ftruncate(self._logs[name], size)
        return data

    def save(
        self,
        *,
        rows: npt.NDArray[Any],
        pairs: npt.NDArray[Any],
        prompts: list[str],
        shards: list[tuple[int, str]],
        updates: dict[str, Any],
    ) -> None:
        """Append to the logs what is new since the last durable point, then make the next one.

        The images of the rows, and the complete shards, must have been flushed before.
        """
        old = self.progress
        new = Progress(
            num_rows=old.num_rows + len(rows),
            num_pairs=old.num_pairs + len(pairs),
            num_prompts=old.num_prompts + len(prompts),
            log_bytes=dict(old.log_bytes),
            log_crc=dict(old.log_crc),
            shards=list(shards),
            updates=updates,
        )
        lines = "".join(json.dumps(prompt) + "\n" for prompt in prompts)
        for name, data in (("rows", rows.tobytes()), ("pairs", pairs.tobytes()), ("prompts", lines.encode())):
            if data:
                with named_os_errors(self.folder / LOG_NAMES[name]):
                    write_at(self._logs[name], data, old.log_bytes[name])
                    flush_data(self._logs[name])
                new.log_bytes[name] += len(data)
                new.log_crc[name] = zlib.crc32(data, old.log_crc[name])
        self._replace_progress(new)

    def _replace_progress(self, progress: Progress) -> None:
        replace_file(self.folder / PROGRESS_NAME, json.dumps(asdict(progress), allow_nan=False).encode())
        self.progress = progress

    def close(self) -> None:
        """Close every file; the folder stays as it is."""
        for fd in self._logs.values():
            with contextlib.suppress(OSError):
                os.close(fd)
        self._logs.clear()


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


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object that a writer left in its workspace; `StoreError` if it is damaged."""
    with named_os_errors(path, "cannot be read"):
        raw = path.read_bytes()
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path}: damaged ({clause(error)}); start again with overwrite=True.") from error
    if not isinstance(content, dict):
        raise StoreError(f"{path}: damaged; start again with overwrite=True.")
    return content


_SHARD_PATTERN = re.compile(r"counterparts-\d{5}-of-\d{5}\.safetensors")


def is_complete(folder: Path) -> bool:
    """Whether `unfinished/` in this store's folder holds a store that only has to be moved into place."""
    return (folder / FOLDER_NAME / MANIFEST_NAME).exists()


def publish(folder: Path) -> None:
    """Move a complete store from `unfinished/` into `folder`, replacing the store that was there.

    Raises:
        StoreError: if the system refuses a step; calling again continues.
    """
    source = folder / FOLDER_NAME
    manifest, _ = read_manifest(source / MANIFEST_NAME)
    with named_os_errors(folder, "the finished store cannot be moved into place"):
        # The old store.json goes first: it must never stand beside shards of the new store.
        (folder / MANIFEST_NAME).unlink(missing_ok=True)
        sync_folder(folder)
        names = {shard.name for shard in manifest.shards}
        for path in folder.iterdir():
            if _SHARD_PATTERN.fullmatch(path.name) and path.name not in names:
                path.unlink()
        for index, shard in enumerate(manifest.shards):
            _move(source / part_name(index), folder / shard.name)
        _move(source / PAIRS_NAME, folder / PAIRS_NAME)
        sync_folder(folder)
        _clear(source)
        (source / MANIFEST_NAME).replace(folder / MANIFEST_NAME)
        sync_folder(folder)
    remove_leftovers(folder)


def remove_leftovers(folder: Path) -> None:
    """Remove an `unfinished/` without work in it, as a crash leaves it behind a finished store."""
    source = folder / FOLDER_NAME
    if source.exists() and not (source / SETTINGS_NAME).exists():
        with named_os_errors(source, "cannot be removed"):
            shutil.rmtree(source)
            sync_folder(folder)


def _move(source: Path, target: Path) -> None:
    if source.exists():  # else an earlier call moved it
        source.replace(target)


def _clear(source: Path) -> None:
    # settings.json first: without it the rest is no work to resume
    (source / SETTINGS_NAME).unlink(missing_ok=True)
    for path in source.iterdir():
        if path.name != MANIFEST_NAME:
            path.unlink()
