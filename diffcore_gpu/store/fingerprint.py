"""The fingerprint of a dataset: what must be equal for a store's sample numbers to mean the same images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from diffcore_gpu.errors import StoreError, clause

Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True)
class DatasetFingerprint:
    """Length, labels and file names of a dataset, each apart, so that a mismatch can be named.

    Attributes:
        num_samples: number of samples, at least 0.
        labels: SHA-256 (hexadecimal) of the labels as little-endian int64.
        file_names: SHA-256 (hexadecimal) of the `name_digests`, or None where the samples have no names.
    """

    num_samples: int
    labels: str
    file_names: str | None

    @property
    def digest(self) -> str:
        """One SHA-256 (hexadecimal) over all parts."""
        text = f"{self.num_samples}\n{self.labels}\n{self.file_names or ''}\n"
        return hashlib.sha256(text.encode()).hexdigest()


def dataset_fingerprint(
    labels: Sequence[int] | torch.Tensor | Int64Array, file_names: Iterable[str] | None = None
) -> DatasetFingerprint:
    """The fingerprint of a dataset: equal on every machine, in every process, for every integer type of the labels.

    Args:
        labels: the class number of each sample, in the dataset's order, shape [num_samples], any integer dtype.
        file_names: the name of each sample, in the same order, relative to the dataset's folder with `/` as separator,
            so that a dataset moved to another folder keeps its fingerprint; None where there are no names.

    Returns:
        What `CounterpartStore.fingerprint` is for a store of that dataset.

    Raises:
        StoreError: if the labels are not a list of integers, or there are not as many names as labels.
    """
    array = as_labels(labels)
    digests = None if file_names is None else name_digests(file_names)
    if digests is not None and len(digests) != len(array):
        raise StoreError(f"there are {len(digests)} file_names for {len(array)} labels.")
    return fingerprint_of(array, digests)


def fingerprint_of(labels: Int64Array, digests: Int64Array | None) -> DatasetFingerprint:
    """The fingerprint from labels (int64 [num_samples]) and `name_digests` (int64 [num_samples] or None)."""
    return DatasetFingerprint(
        num_samples=len(labels),
        labels=hashlib.sha256(labels.astype("<i8", copy=False).tobytes()).hexdigest(),
        file_names=None if digests is None else hashlib.sha256(digests.astype("<i8", copy=False).tobytes()).hexdigest(),
    )


def as_labels(labels: object, name: str = "labels") -> Int64Array:
    """Integers of any type as a fresh int64 array [num_samples]; `StoreError` if they are anything else."""
    if isinstance(labels, torch.Tensor):
        labels = labels.detach().cpu().numpy()
    try:
        array = np.asarray(labels)
    except (ValueError, TypeError) as error:
        raise StoreError(f"{name}: not a list of integers ({clause(error)}).") from error
    if array.ndim == 1 and array.size == 0:
        return np.empty(0, np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise StoreError(f"{name}: expected a list of integers, got shape {list(array.shape)} of {array.dtype}.")
    if array.dtype.kind == "u" and int(array.max()) > np.iinfo(np.int64).max:
        raise StoreError(f"{name}: a number does not fit into 64 bits.")
    return array.astype(np.int64)


def name_digests(file_names: Iterable[str]) -> Int64Array:
    """Eight bytes of BLAKE2b per name as int64 [num_samples]: small enough to store, so the differing one is found."""
    digests = bytearray()
    for name in file_names:
        if not isinstance(name, str):
            raise StoreError(f"file_names: expected strings, got {type(name).__name__}.")
        # a name on disk need not be valid UTF-8; Python then gives it surrogates
        digests += hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return np.frombuffer(bytes(digests), "<i8").astype(np.int64)
