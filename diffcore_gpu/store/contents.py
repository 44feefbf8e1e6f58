"""The content of a finished store: its small tables in memory, its shards as they are read, and numbers of rows."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from diffcore_gpu.documents import read_regular, why
from diffcore_gpu.errors import StoreError
from diffcore_gpu.kernels.spec import SAMPLE_MASK
from diffcore_gpu.store.codecs import CODECS
from diffcore_gpu.store.durable import named_os_errors
from diffcore_gpu.store.files import FolderFiles, Locate, Place, Watched, is_on_network, require_file, use_located
from diffcore_gpu.store.fingerprint import DatasetFingerprint, Int64Array, as_labels
from diffcore_gpu.store.format import RAW, ROW_COLUMNS, SHARD_COLUMNS, Tensors, pairs_tensors, rows_tensors
from diffcore_gpu.store.manifest import FileEntry, Manifest
from diffcore_gpu.store.provenance import FileContents
from diffcore_gpu.store.shard_reader import (
    FileShards,
    MappedShards,
    Reading,
    RowCheck,
    ShardReader,
    shard_entries,
)
from diffcore_gpu.store.tensorfile import check_tensors, parse_header

_FEW_SHARDS = 64  # which are looked at in less time than it takes to tell which of them a batch needs

Indices = int | Sequence[int] | torch.Tensor | npt.NDArray[Any]
Verify: TypeAlias = Literal["lazy"] | None
"""What is checked of the images while a store is used: each row when it is first read, or nothing."""

_TORCH_DTYPES = {"U8": torch.uint8, "I16": torch.int16, "I32": torch.int32, "I64": torch.int64, "F32": torch.float32}


class StoreContents:
    """The files of a finished store, checked against its manifest, with their tensors and sizes.

    Its attributes are described where they are public, in `CounterpartStore`.

    Args:
        path: the store's folder, or what stands for it.
        manifest: what `store.json` says.
        reading: how shards are read; "auto": mapped, unless one is encoded, the files come from `locate`, the rows are
            checked as they are read, or the folder lies on a file system of a network.
        verify: "lazy" to check each row when it is first read.
        seen: bool [num_rows], which rows another process has checked already; None: none.
        locate: gives the path of a file of the store, there when it returns, where that is not in the folder.

    Raises:
        StoreError: a file is missing, or of another size or form than the manifest says; a table is damaged.
    """

    def __init__(
        self,
        path: Path | Place,
        manifest: Manifest,
        *,
        reading: Reading | Literal["auto"] = "auto",
        verify: Verify = None,
        seen: torch.Tensor | None = None,
        locate: Locate | None = None,
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.checksum = manifest.checksum
        self.image_shape = manifest.image_shape
        self.class_names = list(manifest.class_names)
        self.prompts = list(manifest.prompts)
        self.fingerprint: DatasetFingerprint = manifest.fingerprint
        self.metadata: Mapping[str, Any] = manifest.metadata
        self._locate = locate
        self._lock = threading.Lock()
        self._columns: dict[str, torch.Tensor] = {}
        self._coverage: float | None = None
        self._only: Int64Array | None = None
        self._bound = False
        self._seen = seen
        self._asked = reading, verify
        self._ends = manifest.row_ends

        find = locate or FolderFiles(self._folder)
        self._find = find  # the lambda is without `self`, so that open files close with the store
        self._files = Watched(manifest.shards, lambda number: find(manifest.shards[number]), vouched=locate is not None)
        self._entries = [] if locate is not None else [self._header(number) for number in range(len(manifest.shards))]
        expected = pairs_tensors(
            self.num_samples, manifest.num_pairs, names=self.fingerprint.file_names is not None, contents=True
        )
        pairs = self._read_table(manifest.pairs, expected, optional=("file_size", "file_digest"))
        self.labels = pairs["label"]
        self.pair_ptr = pairs["pair_ptr"]
        self.pair_row = pairs["pair_row"]
        self.pair_similarity = pairs["pair_similarity"]
        self.file_name_digests = pairs.get("file_name")
        self.file_contents = (
            FileContents(pairs["file_size"].numpy(), pairs["file_digest"].numpy()) if "file_size" in pairs else None
        )
        self._reader = self._make_reader(reading)
        self._check = self._make_check(verify)

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
    def coverage(self) -> float:
        """Share of the samples that have at least one counterpart, in [0, 1]."""
        if self._coverage is None:
            self._coverage = int((self.pair_ptr[1:] > self.pair_ptr[:-1]).sum()) / self.num_samples
        return self._coverage

    def __len__(self) -> int:
        return self.num_rows

    # Shards

    @property
    def reading(self) -> Reading:
        """How the shards are read: "map" into memory, or by "pread"."""
        return self._reader.reading

    @property
    def is_mapped(self) -> bool:
        """Whether the images can be read where they lie in memory, by anyone: raw, mapped, and not checked as read."""
        return self._reader.tensors is not None and self._check is None

    @property
    def image_shards(self) -> list[torch.Tensor]:
        """One uint8 tensor [n_i, C, H, W] per shard, in row order, memory-mapped.

        Raises:
            StoreError: the store is not mapped.
        """
        if self._reader.tensors is None:
            raise StoreError(f"{self.path}: is not mapped into memory, so it has no image_shards; use images(rows).")
        return self._reader.tensors

    def require_unchanged(self, samples: torch.Tensor | None = None) -> None:
        """Look at every shard that is in use; it takes about 2 µs for each.

        Args:
            samples: int64 [B], dataset indices; of more than 64 shards only those are looked at that hold a row of one
                of these samples. An index that is none is left out. None: all shards are looked at.

        Raises:
            StoreError: naming one that is gone, was cut short, or is another file than the one that was opened.
        """
        if samples is None or len(self.manifest.shards) <= _FEW_SHARDS:
            self._reader.require_unchanged(None)
        else:
            self._reader.require_unchanged(self._shards_of(samples))

    def _shards_of(self, samples: torch.Tensor) -> list[int]:
        """The shards that hold a row of these samples, int64 [B]."""
        index = samples.numpy() & SAMPLE_MASK
        index = index[index < self.num_samples]
        ptr = self.pair_ptr.numpy()
        begin, count = ptr[index], ptr[index + 1] - ptr[index]
        before = np.cumsum(count) - count
        rows = self.pair_row.numpy()[np.repeat(begin - before, count) + np.arange(count.sum())]
        numbers: list[int] = np.unique(np.searchsorted(self._ends, rows, side="right")).tolist()
        return numbers

    def _make_reader(self, reading: Reading | Literal["auto"]) -> ShardReader:
        codecs = {shard.codec for shard in self.manifest.shards}
        unknown = sorted(codecs - CODECS.keys())
        if unknown:
            raise StoreError(
                f"{self.path}: has images of codec {unknown[0]!r}, which this version cannot decode: upgrade "
                "diffcore-gpu."
            )
        if reading == "map" and (codecs - {RAW} or self._locate is not None):
            raise StoreError(f"{self.path}: only raw shards in a folder can be mapped; use reading='pread'.")
        if reading == "auto":
            by_position = codecs - {RAW} or not isinstance(self.path, Path) or is_on_network(self.path)
            reading = "pread" if by_position else "map"
        if reading == "pread":
            return FileShards(self._files, self.image_shape, self.manifest.version, self._ends)
        mapped = MappedShards(self._files, [entries["images"] for entries in self._entries], self._ends)
        mapped.require_unchanged()  # between the look at a header and the map it may have been replaced
        return mapped

    def _make_check(self, verify: Verify) -> RowCheck | None:
        if verify is None:
            return None
        if self.manifest.version == 1:
            raise StoreError(f"{self.path}: is a store of version 1, which has no digests of rows; convert it first.")
        return RowCheck(str(self.path), self._column("digest").numpy(), self._seen)

    # Rows

    @property
    def row_columns(self) -> tuple[str, ...]:
        """The names of the columns that are kept for each row."""
        return tuple(SHARD_COLUMNS if self.manifest.version == 1 else ROW_COLUMNS)

    def row_label(self, rows: Indices | None = None) -> torch.Tensor:
        """The class number of each of `rows` (None: of all rows): int64 [n]. Raises `StoreError` as `images` does."""
        return self.row_column("label", rows)

    def row_seed(self, rows: Indices | None = None) -> torch.Tensor:
        """The seed that each of `rows` (None: all) was generated from: int64 [n]. Raises as `images` does."""
        return self.row_column("seed", rows)

    def row_prompt(self, rows: Indices | None = None) -> torch.Tensor:
        """The index in `prompts`, −1 for none, of each of `rows` (None: all): int32 [n]. Raises as `images` does."""
        return self.row_column("prompt", rows)

    def row_attempt(self, rows: Indices | None = None) -> torch.Tensor:
        """Which attempt was kept, for each of `rows` (None: all): int16 [n]. Raises `StoreError` as `images` does."""
        return self.row_column("attempt", rows)

    def row_column(self, name: str, rows: Indices | None = None) -> torch.Tensor:
        """One of `row_columns` for each of `rows` (None: all), [n]. Raises `StoreError` as `images` does."""
        column = self._column(name)
        return column.clone() if rows is None else column[torch.from_numpy(self._row_index(rows))]

    def _column(self, name: str) -> torch.Tensor:
        column = self._columns.get(name)
        if column is None:
            with self._lock:
                if name not in self._columns:
                    self._columns.update(self._read_columns())
                column = self._columns[name]
        return column

    def _read_columns(self) -> dict[str, torch.Tensor]:
        """All columns; each file is compared with its SHA-256, or is the one that was opened."""
        if self.manifest.rows is not None:
            return self._read_table(self.manifest.rows, rows_tensors(self.num_rows))
        columns = {name: torch.empty(self.num_rows, dtype=_TORCH_DTYPES[ROW_COLUMNS[name]]) for name in SHARD_COLUMNS}
        for number, shard in enumerate(self.manifest.shards):
            path = self.path_of(shard)
            end = int(self._ends[number])
            self._files.require_unchanged(number, path)
            entries = self._entries[number] if self._entries else shard_entries(path, shard, self.image_shape, 1)
            with named_os_errors(path, "cannot be read"), path.open("rb", buffering=0) as file:
                for name, column in columns.items():
                    part = column[end - shard.rows : end].numpy().view(np.uint8).data
                    file.seek(entries[name].begin)
                    if file.readinto(part) != len(part):
                        raise StoreError(f"{path}: has been cut short since the store was opened.")
        return columns

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

    def copy_rows(self, rows: Int64Array, out: torch.Tensor, check: RowCheck | None) -> None:
        """Copy the images of rows int64 [n], n ≥ 1, all in range, into contiguous `out`; see `ShardReader.copy`."""
        self._reader.copy(rows, out, check)

    def row_bytes(self, rows: Indices) -> list[bytes]:
        """The bytes of each of `rows` as its shard holds them: encoded, or of codec raw the pixels.

        Raises:
            StoreError: as `images`.
        """
        return self._reader.row_bytes(self._row_index(rows), self._check)

    def path_of(self, file: FileEntry) -> Path:
        """Where a file of the store lies, on this machine; it is there when this returns."""
        return self._find(file)

    def checked_path_of(self, file: FileEntry) -> Path:
        """Likewise, once all of it was read and hashed; a file from elsewhere that is damaged is fetched again.

        Raises:
            StoreError: it is missing, or not what `store.json` calls for.
        """
        return self._find(file, hash_again=True)

    @property
    def _folder(self) -> Path:
        assert isinstance(self.path, Path), "a store without a folder of its own has `locate`"
        return self.path

    def _header(self, number: int) -> dict[str, Any]:
        """Check a shard that lies in the folder, and remember it."""
        shard = self.manifest.shards[number]
        path = self._folder / shard.name
        self._files.note(number, require_file(path, shard, self._folder))
        return shard_entries(path, shard, self.image_shape, self.manifest.version)

    def _read_table(self, file: FileEntry, expected: Tensors, optional: Sequence[str] = ()) -> dict[str, torch.Tensor]:
        """The tensors of a small file, read into memory and compared with its SHA-256."""
        path, raw = self._read_whole(file)
        entries = parse_header(path, raw[: (1 << 20) + 8], file.size)
        if not set(optional) & set(entries):
            expected = {name: tensor for name, tensor in expected.items() if name not in optional}
        check_tensors(path, entries, expected)
        checksum = hashlib.sha256(raw).hexdigest()
        if checksum != file.checksum:
            raise StoreError(
                f"{path}: damaged: its SHA-256 is {checksum[:12]}…, where store.json calls for {file.checksum[:12]}…."
            )
        memory = torch.frombuffer(raw, dtype=torch.uint8)
        return {
            name: _aligned(memory[entry.begin : entry.end], _TORCH_DTYPES[entry.dtype]).view(entry.shape)
            for name, entry in entries.items()
        }

    def _read_whole(self, file: FileEntry) -> tuple[Path, bytearray]:
        """Where a small file lies, and its bytes."""
        root = None if self._locate is not None else self._folder

        def read(path: Path) -> tuple[Path, bytearray]:
            if root is not None:
                require_file(path, file, root)
            try:
                return path, read_regular(path, file.size, root)
            except FileNotFoundError:
                raise
            except (OSError, ValueError) as error:
                raise StoreError(f"{path}: cannot be read: {why(error)}.") from error

        try:
            return use_located(lambda: self._find(file, hash_again=self._locate is not None), read)
        except FileNotFoundError as error:
            raise StoreError(f"{error.filename}: missing.") from None


def _aligned(data: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    # never needed in our files, but another writer of the format need not align
    return (data.clone() if data.storage_offset() % dtype.itemsize else data).view(dtype)
