"""Where pixels and samples come from: digests by which changed bytes are known again.

The hash is XXH3-64 with seed 0, as a signed 64-bit number: it runs at the speed of memory, so that a row can be checked
whenever it is read. It finds damage and mix-ups, not forgery; whole files have their SHA-256 in `store.json`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import xxhash

from diffcore_gpu.documents import open_regular
from diffcore_gpu.store.fingerprint import Int64Array

Bytes: TypeAlias = bytes | bytearray | memoryview
"""Contiguous bytes; of an array, its `data`."""

UNKNOWN = -1
"""The size of a file that nothing is known of."""
SAMPLED_FILES = 256
"""Of a dataset's files, whose content is looked at where a sample of them suffices."""
_READ_BYTES = 1 << 20


def digest_of(data: Bytes) -> int:
    """XXH3-64 of contiguous bytes, in [−2⁶³, 2⁶³)."""
    return _signed(xxhash.xxh3_64_intdigest(data))


def file_content(path: Path) -> tuple[int, int]:
    """Size in bytes and digest of a regular file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not a regular file.
    """
    fd = open_regular(path)
    try:
        hasher, size = xxhash.xxh3_64(), 0
        while block := os.read(fd, _READ_BYTES):
            hasher.update(block)
            size += len(block)
    finally:
        os.close(fd)
    return size, _signed(hasher.intdigest())


def spread(numbers: Int64Array, most: int) -> Int64Array:
    """At most so many of the numbers [n], the first and the last among them and the others evenly between."""
    if len(numbers) <= most:
        return numbers
    return numbers[np.linspace(0, len(numbers) - 1, most).round().astype(np.int64)]


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


@dataclass(frozen=True, eq=False)
class FileContents:
    """What is known of the content of each sample's file.

    Attributes:
        size: int64 [num_samples], in bytes; −1 where nothing is known.
        digest: int64 [num_samples], XXH3-64; 0 where nothing is known.
    """

    size: Int64Array
    digest: Int64Array

    @classmethod
    def unknown(cls, num_samples: int) -> FileContents:
        """Of no file anything is known."""
        return cls(np.full(num_samples, UNKNOWN, np.int64), np.zeros(num_samples, np.int64))

    @property
    def known(self) -> Int64Array:
        """The samples whose files are known, ascending, int64 [n]."""
        return np.flatnonzero(self.size != UNKNOWN)

    @property
    def checksum(self) -> str:
        """SHA-256 (hexadecimal) of `encode`."""
        return hashlib.sha256(self.encode()).hexdigest()

    def encode(self) -> bytes:
        """Both arrays, one after the other, as little-endian numbers."""
        return self.size.astype("<i8").tobytes() + self.digest.astype("<i8").tobytes()

    @classmethod
    def decode(cls, data: Bytes) -> FileContents:
        """What `encode` gave; ValueError where it is no such thing."""
        numbers = np.frombuffer(data, "<i8").astype(np.int64)
        if len(numbers) % 2:
            raise ValueError("does not hold as many sizes as digests.")
        return cls(*np.split(numbers, 2))

    def first_difference(self, other: FileContents) -> int | None:
        """The first sample whose file both know and that differs; None: there is none."""
        both = (self.size != UNKNOWN) & (other.size != UNKNOWN)
        differs = np.flatnonzero(both & ((self.size != other.size) | (self.digest != other.digest)))
        return int(differs[0]) if len(differs) else None

    def set(self, samples: Sequence[int] | Int64Array, contents: Sequence[tuple[int, int]]) -> None:
        """Enter size and digest of the files of some samples."""
        if len(contents):
            index = np.asarray(samples, np.int64)  # a tuple would be one place in several dimensions
            self.size[index], self.digest[index] = np.asarray(contents, np.int64).T


def joined_contents(old: FileContents | None, new: FileContents | None) -> FileContents | None:
    """What is known of the samples' files by either; where both know one, the new."""
    if old is None or new is None:
        return old or new
    joined = FileContents(old.size.copy(), old.digest.copy())
    known = new.known
    joined.size[known], joined.digest[known] = new.size[known], new.digest[known]
    return joined
