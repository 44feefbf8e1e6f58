"""What a writer holds: shown to a caller, written to `pairs.safetensors`, taken back from a finished store."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from diffcore_gpu.store.durable import replace_file
from diffcore_gpu.store.fingerprint import Int64Array
from diffcore_gpu.store.format import PAIRS_NAME, FileEntry, pairs_tensors
from diffcore_gpu.store.reader import CounterpartStore
from diffcore_gpu.store.tables import PAIR, ROW, sorted_pairs
from diffcore_gpu.store.tensorfile import build_header, file_bytes
from diffcore_gpu.store.workspace import file_checksum


class WrittenRows(NamedTuple):
    """The rows that a writer holds, one entry per row: label and seed int64, prompt int32 (−1: none), attempt int16."""

    label: torch.Tensor
    seed: torch.Tensor
    prompt: torch.Tensor
    attempt: torch.Tensor

    @classmethod
    def of(cls, records: npt.NDArray[Any]) -> WrittenRows:
        """Fresh tensors [n] from records [n] of the row dtype."""
        return cls(*(torch.from_numpy(records[name].copy()) for name in cls._fields))


class WrittenPairs(NamedTuple):
    """The pairs that a writer holds, one entry per pair: sample int64, row int64, similarity float32 (NaN: unknown)."""

    sample: torch.Tensor
    row: torch.Tensor
    similarity: torch.Tensor

    @classmethod
    def of(cls, records: npt.NDArray[Any]) -> WrittenPairs:
        """Fresh tensors [n] from records [n] of the pair dtype."""
        return cls(*(torch.from_numpy(records[name].copy()) for name in cls._fields))


def write_pairs(
    folder: Path, pairs: npt.NDArray[Any], labels: Int64Array, name_digests: Int64Array | None
) -> FileEntry:
    """Write `pairs.safetensors` into `folder` from pairs [n] in any order and the dataset's labels [num_samples]."""
    pair_ptr, ordered = sorted_pairs(pairs, len(labels))
    tensors = pairs_tensors(len(labels), len(ordered), names=name_digests is not None)
    names = [] if name_digests is None else [name_digests]
    arrays = [labels, *names, pair_ptr, ordered["row"], ordered["similarity"]]
    path = folder / PAIRS_NAME
    replace_file(path, b"".join([build_header(tensors), *(array.tobytes() for array in arrays)]))
    return FileEntry(PAIRS_NAME, file_bytes(tensors), file_checksum(path))


def written_contents(store: CounterpartStore) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The rows [num_rows] and pairs [num_pairs] of a finished store as the records that a writer holds."""
    rows = np.empty(store.num_rows, ROW)
    rows["label"], rows["seed"] = store.row_label().numpy(), store.row_seed().numpy()
    rows["prompt"], rows["attempt"] = store.row_prompt().numpy(), store.row_attempt().numpy()
    pairs = np.empty(store.num_pairs, PAIR)
    pairs["sample"] = np.repeat(np.arange(store.num_samples), np.diff(store.pair_ptr.numpy()))
    pairs["row"], pairs["similarity"] = store.pair_row.numpy(), store.pair_similarity.numpy()
    return rows, pairs
