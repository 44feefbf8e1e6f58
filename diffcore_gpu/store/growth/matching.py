"""Which sample of one dataset is which of another: by key, and by content where files were renamed or moved."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from diffcore_gpu.documents import why
from diffcore_gpu.errors import StoreError
from diffcore_gpu.store.fingerprint import Int64Array
from diffcore_gpu.store.provenance import UNKNOWN, FileContents, file_content

_THREADS = 8  # that wait for files


@dataclass(frozen=True)
class Samples:
    """What samples are known by.

    Attributes:
        keys: digests of the samples' keys, int64 [n]; None: they have none.
        contents: of their files, n of each; None: nothing is known.
        count: n.
    """

    keys: Int64Array | None
    contents: FileContents | None
    count: int

    def content(self, sample: int) -> tuple[int, int] | None:
        """Size and digest of the sample's file, where they are known."""
        if self.contents is None or self.contents.size[sample] == UNKNOWN:
            return None
        return int(self.contents.size[sample]), int(self.contents.digest[sample])


@dataclass
class Matching:
    """Which samples were found again.

    Attributes:
        new_of: int64 [number of old samples], the new sample; −1: it is gone.
        by_key: how many were found by their key; where both contents are known, they agree.
        renamed: (old, new) samples that were found by their content under another key.
        changed: (old, new) samples of the same key and other content; they are matched in `new_of`.
        ambiguous: groups of old and new samples of equal content, of which nothing says which is which.
    """

    new_of: Int64Array
    by_key: int = 0
    renamed: list[tuple[int, int]] = field(default_factory=list)
    changed: list[tuple[int, int]] = field(default_factory=list)
    ambiguous: list[tuple[list[int], list[int]]] = field(default_factory=list)


def match(old: Samples, new: Samples) -> Matching:
    """Find the old samples among the new ones; nothing is guessed.

    Samples of equal key are the same unless their contents are known to differ. What is left on both sides is the same
    where the content is, and only one sample on each side has it. Then samples of equal key that are still left have
    changed.

    Raises:
        StoreError: two samples of one side have the same key.
    """
    matching = Matching(np.full(old.count, -1, np.int64))
    of_key = _by_key(old, new)
    differing = []
    for sample, candidate in of_key:
        was, is_ = old.content(sample), new.content(candidate)
        if was is None or is_ is None or was == is_:
            matching.new_of[sample] = candidate
            matching.by_key += 1
        else:
            differing.append((sample, candidate))
    _match_contents(old, new, matching)
    taken = set(matching.new_of.tolist())
    for sample, candidate in differing:
        if matching.new_of[sample] < 0 and candidate not in taken:
            matching.new_of[sample] = candidate
            matching.changed.append((sample, candidate))
    return matching


def _by_key(old: Samples, new: Samples) -> list[tuple[int, int]]:
    """(old, new) samples of equal key, by the old ones."""
    if old.keys is None or new.keys is None:
        return []
    for keys, which in ((old.keys, "the store was made for"), (new.keys, "it is to be bound to")):
        values, first, counts = np.unique(keys, return_index=True, return_counts=True)
        if len(values) < len(keys):
            twice = int(first[counts > 1].min())
            raise StoreError(f"sample {twice} of the dataset that {which} has the same key as another sample.")
    _, in_old, in_new = np.intersect1d(old.keys, new.keys, assume_unique=True, return_indices=True)
    order = np.argsort(in_old)
    return list(zip(in_old[order].tolist(), in_new[order].tolist(), strict=True))


def _match_contents(old: Samples, new: Samples, matching: Matching) -> None:
    left = _by_content(old, np.flatnonzero(matching.new_of < 0).tolist())
    taken = set(matching.new_of.tolist())
    right = _by_content(new, (sample for sample in range(new.count) if sample not in taken))
    for content, samples in left.items():
        candidates = right.get(content, [])
        if len(samples) == len(candidates) == 1:
            matching.new_of[samples[0]] = candidates[0]
            matching.renamed.append((samples[0], candidates[0]))
        elif candidates:
            matching.ambiguous.append((samples, candidates))


def _by_content(samples: Samples, numbers: Iterable[int]) -> dict[tuple[int, int], list[int]]:
    found: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number in numbers:
        content = samples.content(number)
        if content is not None:
            found[content].append(number)
    return found


def contents_of(
    paths: Sequence[str | Path], progress: Callable[[int, int], None] = lambda done, total: None
) -> FileContents:
    """Size and digest of files, which are read whole.

    Args:
        paths: n files.
        progress: gets (done, total).

    Raises:
        StoreError: a file cannot be read, or is no regular file.
    """

    def look(path: str | Path) -> tuple[int, int]:
        try:
            return file_content(Path(path))
        except (OSError, ValueError) as error:
            raise StoreError(f"{path}: cannot be read: {why(error)}.") from error

    contents = FileContents.unknown(len(paths))
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="diffcore-contents") as threads:
        for number, content in enumerate(threads.map(look, paths)):
            contents.set([number], [content])
            progress(number + 1, len(paths))
    return contents
