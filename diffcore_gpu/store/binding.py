"""Whether a store was made for a dataset: labels, names and files found without decoding an image, and compared."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence, Sized
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
from diffcore_gpu.store.real_files import Content, compare_content

_LABEL_ATTRIBUTES = ("targets", "labels", "_labels", "y")
_ITEM_ATTRIBUTES = ("samples", "imgs")
_LABEL_COLUMNS = ("label", "labels", "fine_label")


def check_binding(
    store: StoreContents,
    dataset: object,
    labels: Sequence[int] | torch.Tensor | npt.NDArray[Any] | None,
    file_names: Sequence[str] | None,
    content: Content | None,
    root: str | os.PathLike[str] | None,
    progress: Callable[[int, int], None],
) -> None:
    """Raise `StoreError` unless `store` was made for `dataset`; see `CounterpartStore.bind`."""
    if content not in ("sample", "full", None):
        raise ValueError(f"content must be 'sample', 'full' or None, got {content!r}.")
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
    names = dataset_file_names(dataset) if file_names is None else list(file_names)
    if names is not None:
        _check_names(store, names, length)
    if content is not None:
        _check_content(store, file_finder(dataset, names, root), content, progress)


def _check_content(
    store: StoreContents, path_of: Callable[[int], str] | None, content: Content, progress: Callable[[int, int], None]
) -> None:
    known = store.file_contents is not None and len(store.file_contents.known)
    if content == "full" and not known:
        raise StoreError(
            f"{store.path}: does not know what the files of its dataset held; bind with content=None, or make it again."
        )
    if path_of is not None:
        compare_content(store, path_of, content, progress)
    elif content == "full":
        raise StoreError(
            f"{store.path}: this dataset does not show the paths of its files, so their content cannot be compared; "
            "pass file_names= and root=, or content=None."
        )


def _check_names(store: StoreContents, names: Sequence[str], length: int) -> None:
    if len(names) != length:
        raise StoreError(f"{store.path}: {len(names)} file names for a dataset of {length} samples.")
    if store.file_name_digests is None:
        return
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
    inside = base.rstrip(os.sep) + os.sep
    return [_relative(os.fspath(path), base, inside) for path, _ in items]


def _relative(path: str, base: str, inside: str) -> str:
    if os.sep == "/" and path.startswith(inside):
        name = path[len(inside) :]
        # What follows costs ten times as much.
        if not name.startswith("/") and name == os.path.normpath(name):
            return name
    return PurePath(os.path.relpath(path, base)).as_posix()


def file_finder(
    dataset: object, file_names: Sequence[str] | None, root: str | os.PathLike[str] | None
) -> Callable[[int], str] | None:
    """What gives the path of each sample's file; None: the dataset does not show paths.

    Args:
        dataset: an ImageFolder or its kin, maybe wrapped.
        file_names: relative to `root`, where the dataset does not say.
        root: the folder of the files; None: the paths are those that the dataset shows.
    """
    if isinstance(dataset, IndexedDataset):
        return file_finder(dataset.dataset, file_names, root)
    if root is None and isinstance(dataset, Subset):
        whole = file_finder(dataset.dataset, None, None)
        return None if whole is None else lambda sample: whole(int(dataset.indices[sample]))
    if root is None and (items := _items(dataset)) is not None:
        return lambda sample: os.fspath(items[sample][0])
    base = getattr(dataset, "root", None) if root is None else root
    if file_names is None or not isinstance(base, str | os.PathLike):
        return None
    return lambda sample: os.path.join(base, file_names[sample])  # noqa: PTH118  a string, as the dataset's own are


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
