"""The choice is bounded, even over the classes, and the same in any order."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffcore_gpu.generation.report.choice import StratifiedChoice

OFFERS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 30)), max_size=80)


def chosen(offers: list[tuple[int, int]], limit: int) -> list[tuple[int, int]]:
    choice: StratifiedChoice[tuple[int, int]] = StratifiedChoice(limit)
    for label, key in offers:
        wanted = choice.wants(label, str(key))
        before = set(choice)
        lost = choice.add(label, str(key), (label, key))
        assert ((label, key) in set(choice)) == (wanted or (label, key) in before)
        assert set(choice) == (before | {(label, key)}) - ({lost} - before if not wanted else {lost})
    return list(choice)


@given(OFFERS, st.integers(0, 20), st.randoms(use_true_random=False))
def test_order_repeats_and_restarts_do_not_matter(offers, limit, random) -> None:  # type: ignore[no-untyped-def]
    first = chosen(offers, limit)
    again = offers + offers[: len(offers) // 2]
    random.shuffle(again)
    assert chosen(again, limit) == first
    # What was kept when a run was killed, and everything offered after that or again.
    half = chosen(offers[: len(offers) // 2], limit)
    assert chosen(half + offers[len(offers) // 3 :], limit) == first


@given(OFFERS, st.integers(0, 20))
def test_bounded_and_even(offers: list[tuple[int, int]], limit: int) -> None:
    distinct = set(offers)
    kept = chosen(offers, limit)
    assert len(kept) == len(set(kept)) == min(limit, len(distinct))
    available = Counter(label for label, _ in distinct)
    taken = Counter(label for label, _ in kept)
    fewest = min((taken[label] for label in available if taken[label] < available[label]), default=None)
    if fewest is not None:
        assert max(taken.values(), default=0) <= fewest + 1


def test_many_classes() -> None:
    kept = chosen([(label, key) for label in range(200) for key in range(3)], 20)
    assert len({label for label, _ in kept}) == 20


def test_negative_limit() -> None:
    with pytest.raises(ValueError, match="limit is -1"):
        StratifiedChoice(-1)
