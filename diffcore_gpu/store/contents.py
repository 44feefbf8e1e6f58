"""The content of a finished store: its files, mapped into memory, and what is read out of them."""

from __future__ import annotations

import ctypes
import os
import stat
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from diffcore_gpu.errors import StoreError, clause
from diffcore_gpu.store.durable import named_os_errors
from diffcore_gpu.store.fingerprint import DatasetFingerprint, Int64Array, as_labels
from diffcore_gpu.store.format import ROW_COLUMNS, FileEntry, Manifest, pairs_tensors, shard_tensors
from diffcore_gpu.store.tensorfile import TensorEntry, check_tensors, read_header

Indices = int | Sequence[int] | torch.Tensor | npt.NDArray[Any]

_TORCH_DTYPES = {"U8": torch.uint8, "I16": torch.int16, "I32": torch.int32, "I64": torch.int64, "F32": torch.float32}


class StoreContents:
    """The files of a finished store, checked against its manifest and mapped, with their tensors and sizes.

    Its attributes are described where they are public, in `CounterpartStore`.

    Raises:
        StoreError: a file is missing, or of another size or form than the manifest says.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self.checksum = manifest.checksum
        self.image_shape = manifest.image_shape
        self.class_names = list(manifest.class_names)
        self.prompts = list(manifest.prompts)
        self.fingerprint: DatasetFingerprint = manifest.fingerprint
        self.metadata: Mapping[str, Any] = manifest.metadata
        self._lock = threading.Lock()
        self._columns: dict[str, torch.Tensor] = {}
        self._coverage: float | None = None
        self._only: Int64Array | None = None

        self._entries: list[dict[str, TensorEntry]] = []
        self.image_shards: list[torch.Tensor] = []
        for shard in manifest.shards:
            entries = self._header(shard, shard_tensors(shard.rows, self.image_shape))
            raw = self._map(shard)
            self._entries.append(entries)
            self.image_shards.append(_tensor(raw, entries["images"]))
        self._gather = ShardGather(self.image_shards, manifest.rows_per_shard)
        self._shard_paths = [os.fspath(self.path / shard.name) for shard in manifest.shards]

        expected = pairs_tensors(self.num_samples, manifest.num_pairs, names=self.fingerprint.file_names is not None)
        entries = self._header(manifest.pairs, expected)
        raw = self._map(manifest.pairs)
        self.labels = _tensor(raw, entries["label"])
        self.pair_ptr = _tensor(raw, entries["pair_ptr"])
        self.pair_row = _tensor(raw, entries["pair_row"])
        self.pair_similarity = _tensor(raw, entries["pair_similarity"])
        self.file_name_digests = _tensor(raw, entries["file_name"]) if "file_name" in entries else None

    # Sizes

    @property
    def num_samples(self) -> int:
        """Number of samples of the dataset."""
        return self.manifest.num_samples

    @property
    def num_rows(self) -> int:
        """Number of counterparts."""
        return self.manifest.num_rows

    @property
    def num_pairs(self) -> int:
        """Number of pairs."""
        return self.pair_row.shape[0]

    @property
    def rows_per_shard(self) -> int:
        """Rows in each shard but the last."""
        return self.manifest.rows_per_shard

    @property
    def coverage(self) -> float:
        """Share of the samples that have at least one counterpart, in [0, 1]."""
        if self._coverage is None:
            self._coverage = int((self.pair_ptr[1:] > self.pair_ptr[:-1]).sum()) / self.num_samples
        return self._coverage

    def __len__(self) -> int:
        return self.num_rows

    # Rows

    def row_label(self, rows: Indices | None = None) -> torch.Tensor:
        """The class number of each of `rows` (None: of all rows): int64 [n]. Raises `StoreError` as `images` does."""
        return self._column("label", rows)

    def row_seed(self, rows: Indices | None = None) -> torch.Tensor:
        """The seed that each of `rows` (None: all) was generated from: int64 [n]. Raises as `images` does."""
        return self._column("seed", rows)

    def row_prompt(self, rows: Indices | None = None) -> torch.Tensor:
        """The index in `prompts`, −1 for none, of each of `rows` (None: all): int32 [n]. Raises as `images` does."""
        return self._column("prompt", rows)

    def row_attempt(self, rows: Indices | None = None) -> torch.Tensor:
        """Which attempt was kept, for each of `rows` (None: all): int16 [n]. Raises `StoreError` as `images` does."""
        return self._column("attempt", rows)

    def _column(self, name: str, rows: Indices | None) -> torch.Tensor:
        column = self._columns.get(name)
        if column is None:
            with self._lock:
                column = self._columns.get(name)
                if column is None:
                    column = self._columns[name] = self._read_column(name)
        return column.clone() if rows is None else column[torch.from_numpy(self._row_index(rows))]

    def _read_column(self, name: str) -> torch.Tensor:
        column = torch.empty(self.num_rows, dtype=_TORCH_DTYPES[ROW_COLUMNS[name]])
        start = 0
        for shard, entries in zip(self.manifest.shards, self._entries, strict=True):
            part = column[start : start + shard.rows].numpy().view(np.uint8).data
            path = self.path / shard.name
            with named_os_errors(path, "cannot be read"), path.open("rb", buffering=0) as file:
                file.seek(entries[name].begin)
                count = file.readinto(part)
            if count != len(part):
                raise StoreError(f"{path}: has been cut short since the store was opened.")
            start += shard.rows
        return column

    def _row_index(self, rows: Indices) -> Int64Array:
        return self._numbers(rows, "row", self.num_rows)

    def _numbers(self, numbers: Indices, of: str, count: int) -> Int64Array:
        index = as_labels([numbers] if isinstance(numbers, int) else numbers, f"{self.path}: {of}s")
        if len(index):
            low, high = int(index.min()), int(index.max())
            if low < 0 or high >= count:
                wrong = low if low < 0 else high
                raise StoreError(f"{self.path}: {of} {wrong} is outside the store's {count} {of}s.")
        return index

    # Files

    def _header(self, file: FileEntry, expected: Mapping[str, tuple[str, tuple[int, ...]]]) -> dict[str, TensorEntry]:
        path = self.path / file.name
        try:
            if path.is_symlink() and not path.resolve().is_relative_to(self.path.resolve()):
                raise StoreError(f"{path}: is a link to a file outside the store's folder; put the file itself there.")
            status = path.stat()
        except FileNotFoundError:
            raise StoreError(f"{path}: missing.") from None
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
            raise StoreError(f"{path}: cannot be read: {clause(error)}.") from error
        if not stat.S_ISREG(status.st_mode):
            raise StoreError(f"{path}: is not a file.")
        if status.st_size != file.size:
            raise StoreError(f"{path}: has {status.st_size} bytes where store.json calls for {file.size}.")
        entries = read_header(path, file.size)
        check_tensors(path, entries, expected)
        return entries

    def _map(self, file: FileEntry) -> torch.Tensor:
        # torch's own map keeps no file descriptor, unlike Python's mmap, which keeps one: a store may have more shards
        # than a process may have open files. It is private, hence writable to torch and read-only on disk.
        path = self.path / file.name
        try:
            return torch.from_file(os.fspath(path), shared=False, size=file.size, dtype=torch.uint8)
        except RuntimeError as error:
            raise StoreError(f"{path}: cannot be mapped into memory: {clause(error)}.") from error

    def _require_unchanged(self, shard: int) -> None:
        file = self.manifest.shards[shard]
        path = self._shard_paths[shard]
        try:
            size = os.stat(path).st_size  # noqa: PTH116  pathlib takes three times as long, and this is asked per batch
        except OSError as error:
            raise StoreError(f"{path}: cannot be read any more: {error.strerror or error}.") from error
        if size != file.size:
            raise StoreError(f"{path}: has changed since the store was opened ({size} bytes, not {file.size}).")


def _tensor(raw: torch.Tensor, entry: TensorEntry) -> torch.Tensor:
    data = raw[entry.begin : entry.end]
    dtype = _TORCH_DTYPES[entry.dtype]
    if entry.begin % dtype.itemsize:  # never in our files, but another writer of the format need not align
        data = data.clone()
    return data.view(dtype).view(entry.shape)


_threads_are_lost = False
"""Whether this process is a fork: OpenMP, which torch's threads come from, waits forever for them in a child."""


def _note_fork() -> None:
    global _threads_are_lost
    _threads_are_lost = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


class ShardGather:
    """Copies rows out of `shards`, uint8 [n_i, C, H, W], each with `rows_per_shard` rows except the last.

    torch's `index_select` copies rows with several threads and without an interpreter between them, but out of one
    tensor only. So the shards are seen as one: a tensor over the address range from the first map to the end of the
    last, of which only the places of images are ever touched. Where the images' places are not multiples of 8 bytes
    (some small sizes), and in a forked process, numpy copies them one by one.
    """

    def __init__(self, shards: Sequence[torch.Tensor], rows_per_shard: int) -> None:
        self._rows_per_shard = rows_per_shard
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

    def shards_of(self, rows: Int64Array) -> set[int]:
        """The shards in which rows int64 [n] lie."""
        return set((rows // self._rows_per_shard).tolist())

    def copy(self, rows: Int64Array, out: torch.Tensor) -> None:
        """Copy the images of rows int64 [n], n ≥ 1, all in range, into contiguous `out` uint8 [n, C, H, W]."""
        numbers, places = divmod(rows, self._rows_per_shard)
        if self._all_rows is not None and out.data_ptr() % 8 == 0 and not _threads_are_lost:
            words = torch.from_numpy(self._starts[numbers] + places * self._words)
            torch.index_select(self._all_rows, 0, words, out=out.view(len(out), -1).view(torch.int64))
            return
        target = out.numpy()
        for position, (number, place) in enumerate(zip(numbers.tolist(), places.tolist(), strict=True)):
            target[position] = self._arrays[number][place]
