"""Turn the packed files into pairs of a sample and a row."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence, Set
from itertools import cycle
from math import gcd

import numpy as np
import numpy.typing as npt

from diffcore_gpu.packing.imagefolder import ImageFolderScan
from diffcore_gpu.packing.layout import MatchedFile


def pair_up(
    real: ImageFolderScan, kept: Sequence[MatchedFile], limit: int | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pair the samples with the rows that may serve them, never with a row made from their own file.

    Args:
        real: the samples.
        kept: the file behind each row, in the order of the rows.
        limit: pairs for each sample, or None for all that are possible.

    Returns:
        The samples, int64 [pairs], ascending, and for each its row, int64 [pairs], ascending within a sample.
    """
    limit = limit or len(kept)
    own = own_files(real, kept)
    hands: dict[int, list[int]] = {}
    for samples_of_group, rows in groups(real, kept):
        hands.update(zip(samples_of_group, assign(samples_of_group, rows, limit, own), strict=True))
    samples = sorted(hands)
    counts = [len(hands[sample]) for sample in samples]
    flat = np.fromiter((row for sample in samples for row in hands[sample]), np.int64, sum(counts))
    return np.repeat(np.array(samples, np.int64), counts), flat


def groups(real: ImageFolderScan, files: Sequence[MatchedFile]) -> Iterator[tuple[list[int], list[int]]]:
    """Samples, and the positions in `files` of those that may serve every one of them, as the layout says."""
    of_class: dict[int, list[int]] = defaultdict(list)
    of_sample: dict[int, list[int]] = defaultdict(list)
    for position, matched in enumerate(files):
        (of_class[matched.label] if matched.sample < 0 else of_sample[matched.sample]).append(position)
    yield from (([sample], found) for sample, found in of_sample.items())
    members: dict[int, list[int]] = defaultdict(list)
    for sample, label in enumerate(real.labels):
        members[label].append(sample)
    yield from ((members[label], found) for label, found in of_class.items() if label in members)


def own_files(real: ImageFolderScan, files: Sequence[MatchedFile]) -> dict[int, set[int]]:
    """For the samples whose very file is among `files`, its positions there: it is no counterpart of itself."""
    by_path: dict[str, list[int]] = defaultdict(list)
    for position, matched in enumerate(files):
        by_path[matched.file.real_path].append(position)
    own: dict[int, set[int]] = {}
    for sample, file in enumerate(real.files):
        if file.real_path in by_path:
            own[sample] = set(by_path[file.real_path])
    return own


def assign(
    samples: Sequence[int], rows: Sequence[int], limit: int, own: Mapping[int, Set[int]] | None = None
) -> list[list[int]]:
    """Deal the rows of one class round and round to its samples.

    Every sample gets the same number of distinct rows: `limit`, or all where there are no more. The rows are dealt in
    one fixed order over and over, so each serves equally many samples, give or take one (two where `own` is given).
    A large class would otherwise have the product of its two counts in pairs. The order strides through the class
    instead of following file names, in which images of one prompt stand together.

    Args:
        samples: the samples of the class.
        rows: the rows of the class, distinct.
        limit: pairs for each sample, at least 1.
        own: for some samples the rows that were made from the sample's own file, which are no counterparts of it.

    Returns:
        For each sample its rows, ascending.
    """
    own = own or {}
    nothing: Set[int] = frozenset()
    if len(rows) <= limit:
        ordered = sorted(rows)
        return [[row for row in ordered if row not in own.get(sample, nothing)] for sample in samples]
    order = cycle([rows[position] for position in _strided(len(rows))])
    passed_over: deque[int] = deque()  # was dealt to a sample that could not take it: goes to the next that can
    dealt = []
    for sample in samples:
        refused = own.get(sample, nothing)
        wanted = min(limit, len(rows) - len(refused))
        hand: set[int] = set()
        for _ in range(len(passed_over)):
            row = passed_over.popleft()
            if len(hand) < wanted and row not in hand and row not in refused:
                hand.add(row)
            else:
                passed_over.append(row)
        while len(hand) < wanted:
            row = next(order)
            if row in hand or row in refused:
                passed_over.append(row)
            else:
                hand.add(row)
        dealt.append(sorted(hand))
    return dealt


def _strided(count: int) -> list[int]:
    """A permutation of range(count) in which neighbours lie far apart: steps of about the golden section."""
    step = max(1, round(count * 0.381966))
    while gcd(step, count) != 1:
        step += 1
    return [index * step % count for index in range(count)]
