"""A_O and its interval, from samples to what is shown, against scipy and against counting."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from diffcore_gpu.benchmarks.harness.intervals import CONFIDENCE, corrected, median_interval
from diffcore_gpu.benchmarks.steps.results import at_batches, overhead
from tests.benchmarks.reporting.samples import OVERHEADS, steps


@given(st.integers(1, 60), st.floats(0.01, 0.99999))
def test_the_interval_is_the_narrowest_that_the_binomial_distribution_allows(n: int, coverage: float) -> None:
    found = median_interval(list(range(1, n + 1))[::-1], coverage)
    k = round(found.low)
    assert found.high == n + 1 - k
    assert found.coverage == pytest.approx(1 - 2 * stats.binom.cdf(k - 1, n, 0.5), abs=1e-12)
    if found.coverage < coverage - 1e-12:
        assert k == 1  # the whole range
    if k + 1 <= n - k:
        assert 1 - 2 * stats.binom.cdf(k, n, 0.5) < coverage + 1e-12


def test_the_interval_is_that_of_the_sign_test() -> None:
    """Of 20 values, the 6th smallest and largest hold the median with 95 %; of 21 with 40 comparisons, the 3rd."""
    assert median_interval(range(20), 0.95)[:2] == (5, 14)
    assert median_interval(range(21), corrected(40))[:2] == (2, 18)
    assert median_interval([7.0], 0.95) == (7.0, 7.0, 0.0)


def test_what_the_range_of_few_values_covers_is_counted() -> None:
    """Each of 2⁴ patterns of lying below or above the median is as likely as any other."""
    inside = [not all(sides) and any(sides) for sides in itertools.product((False, True), repeat=4)]
    assert median_interval([1, 2, 3, 4], 0.999) == (1, 4, pytest.approx(np.mean(inside)))


@given(st.integers(1, 1000))
def test_corrected_intervals_miss_together_no_more_than_one_may(comparisons: int) -> None:
    assert comparisons * (1 - corrected(comparisons)) == pytest.approx(1 - CONFIDENCE)


def test_corrected_intervals_hold_all_medians_together_in_19_runs_of_20() -> None:
    generator = np.random.default_rng(0)
    runs, comparisons, turns = 400, 20, 21
    held = 0
    for values in generator.exponential(size=(runs, comparisons, turns)):
        found = [median_interval(list(of), corrected(comparisons)) for of in values]
        held += all(one.low <= np.log(2) <= one.high for one in found)
    assert held / runs > 0.94


def test_the_overhead_is_that_of_paired_steps() -> None:
    vanilla = [1.0, 2.0, 4.0, 1.0, 2.0]
    found = overhead([value * 1.5 for value in vanilla], vanilla, 0.9)
    assert (found.percent, found.low, found.high, found.noise) == (50.0, 50.0, 50.0, False)
    found = overhead([1.1, 2.0, 4.0, 0.9, 2.4], vanilla, 0.9)
    assert (found.percent, found.low, found.high) == (0.0, pytest.approx(-10), pytest.approx(20))
    assert found.noise
    with pytest.raises(ValueError, match="longer"):
        overhead([1.0], vanilla, 0.9)


def test_blocks_of_a_batch_size_stand_together_each_against_its_own_vanilla() -> None:
    slow: dict[str, Any] = steps(16, "vanilla again", "saliencymix", block="others", failed={})
    for time in slow["times"].values():  # as if the machine had become slower
        time["samples_ms"] = [3 * value for value in time["samples_ms"]]
    parts = [steps(16, "vanilla again", "mixup", block="peers"), steps(32, "mixup", block="peers"), slow]
    first, second = at_batches(parts)
    assert list(first.arms) == [
        "vanilla", "vanilla again", "mixup", "vanilla (others)", "vanilla again (others)", "saliencymix",
    ]  # fmt: skip
    assert first.arms["vanilla"].overhead is first.arms["vanilla (others)"].overhead is None
    for name in ("mixup", "saliencymix"):
        assert first.overheads[name].percent == pytest.approx(OVERHEADS[name]["percent"])
    assert list(first.again) == ["vanilla again", "vanilla again (others)"]
    assert first.turns == {"peers": 3, "others": 3}
    assert list(second.arms) == ["vanilla", "mixup"]
    assert first.failed == {"puzzlemix": "there is no gco"}


def test_intervals_are_corrected_for_all_that_stand_side_by_side() -> None:
    part = steps(16, "mixup")
    for time in part["times"].values():
        time["samples_ms"] = [value + k for k, value in enumerate(time["samples_ms"] * 3)]
    widths = []
    for count in (1, 30):
        (found, *_) = at_batches([{**part, "batch": batch} for batch in range(count)])
        widths.append(found.overheads["mixup"].high - found.overheads["mixup"].low)
        assert found.overheads["mixup"].coverage == pytest.approx(
            1 - 2 * stats.binom.cdf(1 if count == 1 else 0, 9, 0.5)
        )
    assert widths[0] <= widths[1]


def test_without_vanilla_steps_nothing_is_compared() -> None:
    part = steps(16, "mixup")
    del part["times"]["vanilla"]
    (found,) = at_batches([part])
    assert list(found.arms) == ["mixup"]
    assert found.overheads == {}
