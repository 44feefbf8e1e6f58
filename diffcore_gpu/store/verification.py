"""Reading a whole store and checking every byte and every number in it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from diffcore_gpu.errors import StoreError, clause
from diffcore_gpu.store.contents import StoreContents
from diffcore_gpu.store.files import use_located
from diffcore_gpu.store.fingerprint import fingerprint_of
from diffcore_gpu.store.manifest import FileEntry
from diffcore_gpu.store.shard_reader import RowCheck

_READ_BYTES = 16 << 20


def verify_store(store: StoreContents) -> None:
    """Check everything about an opened store; `StoreError` names the file and the first thing that is wrong."""
    for table in store.manifest.tables:
        _verify_file(store, table)
    first = 0
    for shard in store.manifest.shards:  # one after the other, since a cache may not hold them all
        _verify_file(store, shard)
        _verify_digests(store, first, first + shard.rows)
        first += shard.rows
    # The checksums show that nothing changed since it was written; the rest shows that what was written is right.
    _verify_rows(store)
    _verify_pairs(store)


def _verify_file(store: StoreContents, file: FileEntry) -> None:
    use_located(lambda: store.checked_path_of(file), _verify_opens_elsewhere)


def _verify_opens_elsewhere(path: Path) -> None:
    """The promise of the format: the safetensors library itself, which our reader does without, opens the file too."""
    try:
        with safe_open(path, "pt") as file:
            file.get_slice(next(iter(file.keys()))).get_shape()
    except SafetensorError as error:
        raise StoreError(f"{path}: wrong: the safetensors library does not open it ({clause(error)}).") from error


def check_pair_numbers(store: StoreContents) -> None:
    """Check that the pairs can be followed without leaving the store; reads the pairs, not the images.

    Raises:
        StoreError: `pair_ptr` does not rise from 0 to the number of pairs, or a pair names no row of the store.
    """
    path = store.path_of(store.manifest.pairs)
    ptr, row = store.pair_ptr, store.pair_row
    if int(ptr[0]) != 0 or int(ptr[-1]) != store.num_pairs or bool((ptr[1:] < ptr[:-1]).any()):
        raise StoreError(f"{path}: wrong: pair_ptr does not rise from 0 to the {store.num_pairs} pairs.")
    pair = _first((row < 0) | (row >= store.num_rows))
    if pair is not None:
        raise StoreError(f"{path}: wrong: pair {pair} names row {int(row[pair])} of {store.num_rows}.")


def _verify_rows(store: StoreContents) -> None:
    limits = {
        "label": (store.row_label().long(), 0, len(store.class_names)),
        "prompt": (store.row_prompt().long(), -1, len(store.prompts)),
        "attempt": (store.row_attempt().long(), 0, 1 << 15),
    }
    for name, (column, low, high) in limits.items():
        row = _first((column < low) | (column >= high))
        if row is not None:
            raise StoreError(
                f"{store.path}: wrong: row {row} has the {name} {int(column[row])}, outside [{low}, {high - 1}]."
            )


def _verify_digests(store: StoreContents, begin: int, end: int) -> None:
    """Read the images of the rows [begin, end) once more, and compare each with its digest."""
    if store.manifest.version == 1:
        return
    check = RowCheck(str(store.path), store.row_column("digest").numpy())
    image_bytes = math.prod(store.image_shape)
    step = max(1, _READ_BYTES // image_bytes)
    out = torch.empty((min(step, end - begin), *store.image_shape), dtype=torch.uint8)
    for first in range(begin, end, step):
        rows = np.arange(first, min(first + step, end))
        store.copy_rows(rows, out[: len(rows)], check)


def _verify_pairs(store: StoreContents) -> None:
    path = store.path_of(store.manifest.pairs)
    sample = _first((store.labels < 0) | (store.labels >= len(store.class_names)))
    if sample is not None:
        raise StoreError(f"{path}: wrong: sample {sample} has label {int(store.labels[sample])}, which names no class.")
    digests = store.file_name_digests
    if fingerprint_of(store.labels.numpy(), None if digests is None else digests.numpy()) != store.fingerprint:
        raise StoreError(f"{path}: wrong: its labels or file names are not those of the fingerprint in store.json.")

    check_pair_numbers(store)
    ptr, row, similarity = store.pair_ptr, store.pair_row, store.pair_similarity
    samples = torch.repeat_interleave(torch.arange(store.num_samples), ptr[1:] - ptr[:-1])
    pair = _first(store.row_label(row) != store.labels[samples])
    if pair is not None:
        raise StoreError(
            f"{path}: wrong: row {int(row[pair])} is paired with sample {int(samples[pair])}, which has another label."
        )
    pair = _first(similarity.isinf())
    if pair is not None:
        raise StoreError(f"{path}: wrong: pair {pair} has an infinite similarity.")
    # NaN sorts last; equal similarities are sorted by row, which also shows that no pair occurs twice in a run of them
    key = -similarity.nan_to_num(nan=-torch.inf)
    in_order = (key[1:] > key[:-1]) | ((key[1:] == key[:-1]) & (row[1:] > row[:-1]))
    pair = _first((samples[1:] == samples[:-1]) & ~in_order)
    if pair is not None:
        raise StoreError(f"{path}: wrong: the pairs of sample {int(samples[pair])} are not sorted.")
    order = torch.argsort(samples * store.num_rows + row)
    twice = _first((samples[order][1:] == samples[order][:-1]) & (row[order][1:] == row[order][:-1]))
    if twice is not None:
        at = order[twice]
        raise StoreError(f"{path}: wrong: the pair of sample {int(samples[at])} and row {int(row[at])} occurs twice.")


def _first(wrong: torch.Tensor) -> int | None:
    """Position of the first True of a bool tensor [n], or None."""
    found = torch.nonzero(wrong)
    return int(found[0]) if len(found) else None
