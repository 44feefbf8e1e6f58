"""The rows and pairs of a store in the making: packed numpy records that grow, with no Python object per entry."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from diffcore_gpu.errors import StoreError
from diffcore_gpu.store.contents import StoreContents
from diffcore_gpu.store.durable import replace_file
from diffcore_gpu.store.fingerprint import Int64Array
from diffcore_gpu.store.format import ROW_COLUMNS, Tensors, pairs_name, pairs_tensors, rows_name, rows_tensors
from diffcore_gpu.store.manifest import FileEntry
from diffcore_gpu.store.provenance import FileContents
from diffcore_gpu.store.tensorfile import build_header

ROW = np.dtype(
    [
        ("label", "<i8"),
        ("seed", "<i8"),
        ("digest", "<i8"),
        ("source", "<i8"),
        ("prompt", "<i4"),
        ("attempt", "<i2"),
        ("size", "<i4"),
    ]
)
"""One row without its image, 42 bytes: the columns of the store, and the bytes that its image takes in the shard."""

PAIR = np.dtype([("sample", "<i8"), ("row", "<i8"), ("similarity", "<f4")])
"""One pair, 20 bytes; `similarity` is NaN where it was not measured."""


class Table:
    """A growing array of records: appending costs amortized constant time, `view` copies nothing."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._records = np.empty(1024, dtype)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def append(self, record: tuple[object, ...]) -> None:
        """Add one record, its fields in the dtype's order."""
        self._reserve(self._size + 1)
        self._records[self._size] = record
        self._size += 1  # last, so that an interrupt between the two lines leaves the table as it was

    def extend(self, records: npt.NDArray[Any]) -> None:
        """Add an array of records [n] of the same dtype."""
        end = self._size + len(records)
        self._reserve(end)
        self._records[self._size : end] = records
        self._size = end

    def view(self, begin: int = 0, end: int | None = None) -> npt.NDArray[Any]:
        """The records [begin, end) without a copy; they must not be kept across an append."""
        return self._records[begin : self._size if end is None else end]

    def _reserve(self, size: int) -> None:
        if size > len(self._records):
            grown = np.empty(max(size, 2 * len(self._records)), self._records.dtype)
            grown[: self._size] = self._records[: self._size]
            self._records = grown


class PairTable(Table):
    """Pairs without duplicates.

    Pairs usually come with rows rising for each sample; then one number per sample, its highest row so far, shows that
    a pair is new. The first pair out of that order builds an exact set of all pairs (about 100 bytes each).
    """

    def __init__(self, num_samples: int) -> None:
        super().__init__(PAIR)
        self._highest_row = np.full(num_samples, -1, np.int64)
        self._known: set[tuple[int, int]] | None = None

    def add(self, sample: int, row: int, similarity: float) -> None:
        """Add one pair of numbers that are known to be in range; `StoreError` if it is there already."""
        if self._known is not None or row <= self._highest_row[sample]:
            self._refuse_known([(sample, row)])
        self.append((sample, row, similarity))
        self._note([(sample, row)])
        if row > self._highest_row[sample]:
            self._highest_row[sample] = row

    def add_many(self, records: npt.NDArray[Any]) -> None:
        """Add an array of pairs [n], all or none; `StoreError` if one is there already or occurs twice."""
        order = np.lexsort((records["row"], records["sample"]))
        samples, rows = records["sample"][order], records["row"][order]
        twice = (samples[1:] == samples[:-1]) & (rows[1:] == rows[:-1])
        if twice.any():
            at = int(twice.argmax())
            raise StoreError(f"the pair of sample {samples[at]} and row {rows[at]} is given twice.")
        pairs: list[tuple[int, int]] = []
        if self._known is not None or (rows <= self._highest_row[samples]).any():
            pairs = list(zip(samples.tolist(), rows.tolist(), strict=True))
            self._refuse_known(pairs)
        self.extend(records)
        self._note(pairs)
        np.maximum.at(self._highest_row, samples, rows)

    def restore(self, records: npt.NDArray[Any]) -> None:
        """Fill an empty table with pairs [n] that were checked when they were first added."""
        self.extend(records)
        np.maximum.at(self._highest_row, records["sample"], records["row"])

    def _refuse_known(self, pairs: list[tuple[int, int]]) -> None:
        if self._known is None:
            records = self.view()
            self._known = set(zip(records["sample"].tolist(), records["row"].tolist(), strict=True))
        for sample, row in pairs:
            if (sample, row) in self._known:
                raise StoreError(f"the pair of sample {sample} and row {row} is there already.")

    def _note(self, pairs: list[tuple[int, int]]) -> None:
        if self._known is not None:
            self._known.update(pairs)


def sorted_pairs(pairs: npt.NDArray[Any], num_samples: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
    """Sort pairs [n] by sample, then similarity from high to low (NaN last), then row.

    Returns:
        `pair_ptr` int64 [num_samples + 1], where the pairs of sample i are [pair_ptr[i], pair_ptr[i + 1]), and the
        sorted records [n].
    """
    similarity = pairs["similarity"]
    falling = np.where(np.isnan(similarity), np.float32(np.inf), -similarity)
    order = np.lexsort((pairs["row"], falling, pairs["sample"]))
    pair_ptr = np.zeros(num_samples + 1, np.int64)
    np.cumsum(np.bincount(pairs["sample"], minlength=num_samples), out=pair_ptr[1:])
    ordered = pairs[order]
    # one NaN, whatever bits the caller's had: equal stores are to be equal byte for byte
    ordered["similarity"][np.isnan(ordered["similarity"])] = np.float32(np.nan)
    return pair_ptr, ordered


class WrittenRows(NamedTuple):
    """The rows that a writer holds, one entry per row.

    `label`, `seed`, `digest` and `source` are int64, `prompt` int32 (−1: none), `attempt` int16.
    """

    label: torch.Tensor
    seed: torch.Tensor
    digest: torch.Tensor
    source: torch.Tensor
    prompt: torch.Tensor
    attempt: torch.Tensor


class WrittenPairs(NamedTuple):
    """The pairs that a writer holds, one entry per pair: sample int64, row int64, similarity float32 (NaN: unknown)."""

    sample: torch.Tensor
    row: torch.Tensor
    similarity: torch.Tensor


def fresh_tensors(table: Table, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """Fields of a table's records, each a tensor [n] of its own."""
    records = table.view()
    return {name: torch.from_numpy(records[name].copy()) for name in names}


def write_rows(folder: Path, rows: npt.NDArray[Any]) -> FileEntry:
    """Write the file of the rows' columns into `folder`, from records [num_rows]."""
    return _write(folder, rows_name, rows_tensors(len(rows)), [rows[name] for name in ROW_COLUMNS])


def write_pairs(
    folder: Path,
    pairs: npt.NDArray[Any],
    labels: Int64Array,
    name_digests: Int64Array | None,
    contents: FileContents | None,
) -> FileEntry:
    """Write the file of samples and pairs into `folder`, from pairs [n] in any order and what is known of each sample.

    Args:
        folder: where.
        pairs: records of `PAIR`.
        labels: int64 [num_samples].
        name_digests: of the samples' keys, int64 [num_samples]; None: they have none.
        contents: of the samples' files; None: they have none.
    """
    pair_ptr, ordered = sorted_pairs(pairs, len(labels))
    tensors = pairs_tensors(len(labels), len(ordered), names=name_digests is not None, contents=contents is not None)
    arrays = [
        labels,
        *([] if name_digests is None else [name_digests]),
        *([] if contents is None else [contents.size, contents.digest]),
        pair_ptr,
        ordered["row"],
        ordered["similarity"],
    ]
    return _write(folder, pairs_name, tensors, arrays)


def _write(folder: Path, name: Callable[[str], str], tensors: Tensors, arrays: Sequence[npt.NDArray[Any]]) -> FileEntry:
    data = b"".join([build_header(tensors), *(array.tobytes() for array in arrays)])
    checksum = hashlib.sha256(data).hexdigest()
    replace_file(folder / name(checksum), data)
    return FileEntry(name(checksum), len(data), checksum)


def written_rows(store: StoreContents) -> npt.NDArray[Any]:
    """The rows of a finished store as the records that a writer holds, [num_rows]; `size` is not known and 0."""
    rows = np.zeros(store.num_rows, ROW)
    for name in store.row_columns:
        rows[name] = store.row_column(name).numpy()
    return rows


def written_pairs(store: StoreContents) -> npt.NDArray[Any]:
    """The pairs of a finished store as the records that a writer holds, [num_pairs]."""
    pairs = np.empty(store.num_pairs, PAIR)
    pairs["sample"] = np.repeat(np.arange(store.num_samples), np.diff(store.pair_ptr.numpy()))
    pairs["row"], pairs["similarity"] = store.pair_row.numpy(), store.pair_similarity.numpy()
    return pairs
