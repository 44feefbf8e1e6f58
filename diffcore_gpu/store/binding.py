"""Whether a store was made for a dataset: labels and file names found without decoding an image, and compared."""

from __future__ import annotations

import os
from collections.abc import Sequence, Sized
from pathlib import PurePath
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Subset

from diffcore_gpu.data import IndexedDataset
from diffcore_gpu.errors import StoreError
from diffcore_gpu.store.contents import StoreContents
from diffcore_gpu.store.fingerprint import Int64Array, as_labels, fingerprint_of, name_digests

_LABEL_ATTRIBUTES = ("targets", "labels", "_labels", "y")
_ITEM_ATTRIBUTES = ("samples", "imgs")
_LABEL_COLUMNS = ("label", "labels", "fine_label")


def check_binding(
    store: StoreContents,
    dataset: object,
    labels: Sequence[int] | torch.Tensor | npt.NDArray[Any] | None,
    file_names: Sequence[str] | None,
) -> None:
    """Raise `StoreError` unless `store` was made for `dataset`; see `CounterpartStore.bind`."""
    dataset = indexed_by(dataset)
    length = _length(dataset)
    if length != store.num_samples:
        raise StoreError(
            f"{store.path}: made for a dataset of {store.num_samples} samples, "
            f"and this one has {length}{_hint(dataset)}."
        )
    found = dataset_labels(dataset) if labels is None else as_labels(labels)
    if found is None:
        raise StoreError(
            f"{store.path}: the labels of this {type(dataset).__name__} cannot be found without decoding every image; "
            "pass them: bind(dataset, labels=[...])."
        )
    if len(found) != length:
        raise StoreError(f"{store.path}: {len(found)} labels for a dataset of {length} samples.")
    own = store.labels.numpy()
    if fingerprint_of(found, None).labels != store.fingerprint.labels:
        differs = np.flatnonzero(found != own)
        where = f": sample {differs[0]} has label {found[differs[0]]}, not {own[differs[0]]}" if len(differs) else ""
        raise StoreError(f"{store.path}: made for a dataset with other labels{where}.")
    _check_names(store, dataset, length, file_names)


def _check_names(store: StoreContents, dataset: object, length: int, file_names: Sequence[str] | None) -> None:
    if store.file_name_digests is None:
        return
    names = dataset_file_names(dataset) if file_names is None else list(file_names)
    if names is None:
        return
    if len(names) != length:
        raise StoreError(f"{store.path}: {len(names)} file names for a dataset of {length} samples.")
    digests = name_digests(names)
    differs = np.flatnonzero(digests != store.file_name_digests.numpy())
    if len(differs):
        raise StoreError(
            f"{store.path}: made for a dataset with other file names, or the same in another order: "
            f"sample {differs[0]} is {names[differs[0]]!r} here and was another file there."
        )


def indexed_by(dataset: object) -> object:
    """The dataset that sample indices count in: the one inside an `IndexedDataset`, else the dataset itself."""
    inner = dataset
    while isinstance(inner, Subset):
        inner = inner.dataset
    return indexed_by(inner.dataset) if isinstance(inner, IndexedDataset) else dataset


def dataset_labels(dataset: object) -> Int64Array | None:
    """The class number of each sample, int64 [n], found without decoding an image; None if there is no such way.

    Raises:
        StoreError: if the dataset has labels that are not integers.
    """
    if isinstance(dataset, IndexedDataset):
        return dataset_labels(dataset.dataset)
    if isinstance(dataset, Subset):
        whole = dataset_labels(dataset.dataset)
        return None if whole is None else whole[np.asarray(dataset.indices, dtype=np.int64)]
    for attribute in _LABEL_ATTRIBUTES:
        value = getattr(dataset, attribute, None)
        if value is not None and isinstance(value, Sized) and not callable(value):
            return as_labels(value, f"the dataset's {attribute}")
    items = _items(dataset)
    if items is not None:
        return as_labels([label for _, label in items], "the dataset's samples")
    columns = getattr(dataset, "column_names", None)
    if isinstance(columns, list):
        for column in _LABEL_COLUMNS:
            if column in columns:
                return as_labels(dataset[column][:], f"the dataset's column {column}")  # type: ignore[index]
    return None


def dataset_file_names(dataset: object) -> list[str] | None:
    """The name of each sample relative to the dataset's `root`, with `/` as separator; None if there are none."""
    if isinstance(dataset, IndexedDataset):
        return dataset_file_names(dataset.dataset)
    if isinstance(dataset, Subset):
        whole = dataset_file_names(dataset.dataset)
        return None if whole is None else [whole[index] for index in dataset.indices]
    items = _items(dataset)
    root = getattr(dataset, "root", None)
    if items is None or not isinstance(root, str | os.PathLike):
        return None
    base = os.fspath(root)
    return [PurePath(os.path.relpath(path, base)).as_posix() for path, _ in items]


def _items(dataset: object) -> Sequence[tuple[Any, Any]] | None:
    """The (path, label) list of an ImageFolder and its kin."""
    for attribute in _ITEM_ATTRIBUTES:
        items = getattr(dataset, attribute, None)
        if isinstance(items, Sequence) and items:
            first = items[0]
            if isinstance(first, Sequence) and len(first) == 2 and isinstance(first[0], str | os.PathLike):
                return items
    return None


def _length(dataset: object) -> int:
    try:
        return len(dataset)  # type: ignore[arg-type]
    except TypeError as error:
        raise StoreError(
            f"a store is bound to a map-style dataset; this {type(dataset).__name__} has no length."
        ) from error


def _hint(dataset: object) -> str:
    if isinstance(dataset, Subset):
        return "; to train on a part of the dataset, wrap the whole in IndexedDataset first and take the Subset of that"
    return ""
