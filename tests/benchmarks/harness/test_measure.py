"""The measuring code that the benchmarks share."""

from __future__ import annotations

from functools import partial
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffcore_gpu.benchmarks.harness import measure

CPU = torch.device("cpu")


def test_actions_take_turns_after_a_preparation_each() -> None:
    calls: list[str] = []
    seconds = measure.interleaved(
        {name: partial(calls.append, name) for name in "abc"},
        device=CPU,
        repeats=17,
        warmup=3,
        prepare=lambda: calls.append("-"),
    )
    rounds = ["".join(calls[start : start + 6]) for start in range(0, 120, 6)]
    assert "".join(rounds) == "".join(calls)
    orders = {f"-{a}-{b}-{c}" for a, b, c in permutations("abc")}
    assert set(rounds) == orders  # every action comes after every other, and none always after the same
    assert {name: len(values) for name, values in seconds.items()} == dict.fromkeys("abc", 17)
    assert all(value >= 0 for values in seconds.values() for value in values)


def test_summary_of_known_samples() -> None:
    result = measure.summary([i / 1000 for i in range(11)])
    assert result["median_ms"] == pytest.approx(5)
    assert result["p10_ms"] == pytest.approx(1)
    assert result["p90_ms"] == pytest.approx(9)
    assert result["samples_ms"] == list(range(11))


@pytest.mark.parametrize(("other", "noise"), [((5.5, 4.5, 9), True), ((20, 19, 21), False), ((8, 7.9, 8.1), False)])
def test_noise_is_a_difference_within_both_spreads(other: tuple[float, float, float], noise: bool) -> None:
    one = {"median_ms": 5, "p10_ms": 4, "p90_ms": 9}
    two = dict(zip(("median_ms", "p10_ms", "p90_ms"), other, strict=True))
    assert measure.within_noise(one, two) is measure.within_noise(two, one) is noise


def test_table_lines_up() -> None:
    assert measure.table(("name", "ms"), [("a", "1.0"), ("longer", "10.0")]).split("\n") == [
        "name      ms",
        "a        1.0",
        "longer  10.0",
    ]


@given(
    st.lists(st.floats(50, 60), min_size=2, max_size=5),
    st.lists(st.floats(50, 60), min_size=2, max_size=5),
    st.floats(-100, 100),
)
def test_noise_between_arms_knows_no_order_and_no_offset(one: list[float], other: list[float], offset: float) -> None:
    found = measure.within_deviation(one, other)
    assert found == measure.within_deviation(other, one)
    difference = abs(np.mean(one) - np.mean(other))
    limit = np.sqrt(np.var(one, ddof=1) + np.var(other, ddof=1))
    if abs(difference - limit) > 1e-6:
        assert found == bool(difference < limit)
        assert found == measure.within_deviation([value + offset for value in one], [value + offset for value in other])


def test_of_one_value_there_is_no_deviation() -> None:
    assert measure.deviation([0.5]) is None
    assert measure.deviation([1.0, 2.0, 6.0]) == pytest.approx(np.std([1, 2, 6], ddof=1))
    assert measure.within_deviation([0.5], [0.5, 0.6]) is None
