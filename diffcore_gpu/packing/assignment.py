"""Which counterparts of a class serve which of its samples, when each may serve all of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence, Set
from itertools import cycle
from math import gcd


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
