"""The tally counts samples once; what it chooses is bounded, even over the classes, and the same in any order."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffcore_gpu.generation.report.records import Candidate, GenerationReport, NeverPassed
from diffcore_gpu.generation.report.tally import KEPT_NEVER_PASSED, ReportTally, StratifiedChoice


def report_of(tally: ReportTally) -> GenerationReport:
    return tally.report(model={}, settings={}, seconds={}, wall_seconds=0.0, timed_images=0)


def test_two_counterparts_of_one_sample_cover_it_once() -> None:
    tally = ReportTally(["a"], [0, 0], [0, 1, 1], [0.5])
    candidate = Candidate(0, 0, 0, 1, "", "", 0.75, True)
    tally.add(candidate)
    tally.add(replace(candidate, seed=2))
    [part] = report_of(tally).classes
    assert (part.wanted, part.covered, part.accepted, part.uncovered) == (2, 1, 2, 1)


def test_the_report_does_not_grow_with_the_samples_that_never_passed() -> None:
    tally = ReportTally(["a", "b"], [0] * 5000 + [1] * 5, range(5005), [0.5, 0.5])
    for sample in range(5005):
        tally.give_up(NeverPassed(sample, sample // 5000, f"{sample}.png", 4, 0.25))
    report = report_of(tally)
    assert report.total.never_passed == 5005
    assert len(report.never_passed) == KEPT_NEVER_PASSED
    assert sum(item.label == 1 for item in report.never_passed) == 5


def test_a_class_without_threshold_is_not_in_the_margin() -> None:
    tally = ReportTally(["a", "b"], [0, 1], [0, 1], [0.5, math.nan])
    for label in (0, 1):
        tally.add(Candidate(label, label, 0, 1, "", "", 0.75, True))
    report = report_of(tally)
    assert report.margin.total == 1
    assert report.margin.low == pytest.approx(0.245)
    assert [part.histogram.total for part in report.classes] == [1, 1]


def test_other_number_of_thresholds() -> None:
    with pytest.raises(ValueError, match="2 classes have 1 thresholds"):
        ReportTally(["a", "b"], [], [], [0.5])


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
