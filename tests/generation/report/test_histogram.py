"""Histograms count what numpy counts, and put the two sides of a threshold into different bins."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffcore_gpu.generation.report.histogram import BIN_WIDTH, Histogram, HistogramCounter, Scale, summed

VALUES = st.lists(st.tuples(st.floats(-1, 1, width=32), st.booleans()), max_size=60)


def counted(values: list[tuple[float, bool]]) -> Histogram:
    counter = HistogramCounter()
    for value, accepted in values:
        counter.add(value, accepted)
    return counter.histogram()


@given(VALUES, st.sampled_from([1, 2, 4, 10, 20, 40]))
def test_every_value_is_in_its_bin(values: list[tuple[float, bool]], factor: int) -> None:
    histogram = counted(values)
    for wanted, counts in ((True, histogram.accepted), (False, histogram.discarded)):
        expected = [0] * len(counts)
        for value, accepted in values:
            if accepted is wanted:
                position = math.ceil(value / BIN_WIDTH) - 1
                assert position * BIN_WIDTH <= value + 1e-12
                assert value <= (position + 1) * BIN_WIDTH + 1e-12
                expected[position - histogram.first] += 1
        assert list(counts) == expected
    accepted, discarded = histogram.merged(Scale(-400, 400, factor)).values()
    assert sum(accepted) == sum(passed for _, passed in values)
    assert sum(accepted) + sum(discarded) == len(values) == histogram.total
    assert Histogram.from_json(histogram.as_json()) == histogram


@given(VALUES, VALUES)
def test_a_sum_is_a_count_of_all(first: list[tuple[float, bool]], second: list[tuple[float, bool]]) -> None:
    assert summed([counted(first), counted(second)]) == counted(first + second)


@given(st.floats(-1, 1, width=32), st.floats(-1, 1))
def test_zero_parts_accepted_from_discarded(similarity: float, threshold: float) -> None:
    histogram = counted([(similarity - threshold, similarity > threshold)])
    assert (histogram.first >= 0) == (similarity > threshold)


def test_agrees_with_numpy_away_from_edges() -> None:
    values = np.random.default_rng(0).normal(0.8, 0.05, 5000)
    accepted = counted([(float(value), True) for value in values]).merged(Scale(80, 240, 4))["accepted"]
    expected, _ = np.histogram(values, bins=40, range=(0.4, 1.2))
    assert accepted == expected.tolist()


def test_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="nan"):
        HistogramCounter().add(math.nan, True)


def test_damaged_json_is_refused() -> None:
    value = counted([(0.5, True)]).as_json()
    for damage in ({"bin_width": 0.1}, {"accepted": [1, 2]}, {"discarded": [-1]}):
        with pytest.raises(ValueError, match=r"bins|negative"):
            Histogram.from_json({**value, **damage})
