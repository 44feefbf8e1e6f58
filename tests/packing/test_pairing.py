"""Each sample gets its share, each row serves evenly, nobody gets a counterpart made from its own file."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from diffcore_gpu.packing.pairing import assign


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 20))
def test_rows_serve_evenly(num_samples: int, num_rows: int, limit: int) -> None:
    rows = list(range(100, 100 + num_rows))
    hands = assign(range(num_samples), rows, limit)
    assert all(len(hand) == min(limit, num_rows) == len(set(hand)) for hand in hands)
    assert all(hand == sorted(hand) and set(hand) <= set(rows) for hand in hands)
    served = Counter(row for hand in hands for row in hand)
    counts = [served[row] for row in rows]
    assert max(counts) - min(counts) <= 1


@given(st.integers(2, 60), st.integers(1, 20), st.data())
def test_no_sample_gets_its_own_row(count: int, limit: int, data: st.DataObject) -> None:
    rows = data.draw(st.permutations(range(count)))
    own = {sample: {row} for sample, row in enumerate(rows)}
    hands = assign(range(count), range(count), limit, own)
    assert all(rows[sample] not in hand for sample, hand in enumerate(hands))
    assert all(len(set(hand)) == len(hand) == min(limit, count - 1) for hand in hands)
    served = Counter(row for hand in hands for row in hand)
    counts = [served[row] for row in range(count)]
    assert max(counts) - min(counts) <= 2


def test_neighbouring_files_are_spread() -> None:
    (hand,) = assign([0], range(100), 4)
    assert min(b - a for a, b in pairwise(hand)) > 10


def test_no_rows() -> None:
    assert assign([1, 2], [], 3) == [[], []]


def test_every_row_is_its_own() -> None:
    assert assign([5], [0, 1, 2], 2, {5: {0, 1, 2}}) == [[]]
