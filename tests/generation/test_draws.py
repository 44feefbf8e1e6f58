"""The random choices: stratified, nested, and dependent on their own number alone."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from diffcore_gpu.generation.draws import choose_samples, draw

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(lambda labels: np.array(labels, np.int64))
SEEDS = st.integers(-(1 << 63), (1 << 64) - 1)
HUNDREDTHS = st.integers(1, 100)


@given(LABELS, HUNDREDTHS, SEEDS)
def test_stratified(labels, hundredths, seed):
    chosen = choose_samples(labels, 5, hundredths / 100, seed)
    assert list(chosen) == sorted(set(chosen))
    for label in range(5):
        exact = Fraction(hundredths, 100) * int((labels == label).sum())
        wanted = {math.floor(exact + Fraction(1, 2))}
        if (exact + Fraction(1, 2)).denominator == 1:  # hundredths / 100 may lie a rounding below the half
            wanted.add(math.floor(exact))
        assert int((labels[chosen] == label).sum()) in wanted


@given(LABELS, HUNDREDTHS, HUNDREDTHS, SEEDS)
def test_nested(labels, one, other, seed):
    small, large = sorted((one, other))
    assert set(choose_samples(labels, 5, small / 100, seed)) <= set(choose_samples(labels, 5, large / 100, seed))


def test_another_seed_chooses_others():
    labels = np.zeros(200, np.int64)
    one, other = (set(choose_samples(labels, 1, 0.5, seed)) for seed in (0, 1))
    assert 30 < len(one & other) < 70


@given(st.lists(st.tuples(st.integers(0, 1 << 40), st.integers(0, 65535)), min_size=1, max_size=9), SEEDS)
def test_a_draw_depends_on_its_own_number_alone(places, seed):
    samples, copies = (np.array(part, np.int64) for part in zip(*places, strict=True))
    together = draw(seed, samples, copies, 5, 7)
    for k in range(len(places)):
        assert draw(seed, samples[k : k + 1], copies[k : k + 1], 5, 7) == together[k : k + 1]
    assert all(0 <= one.seed < 1 << 63 and 0 <= one.prompt_id < 7 for one in together)


def test_seeds_are_distinct_and_prompts_take_turns():
    samples, copies = np.divmod(np.arange(3000, dtype=np.int64), 3)
    rounds = [draw(0, samples, copies, attempt, 6) for attempt in range(6)]
    assert len({one.seed for draws in rounds for one in draws}) == 6 * 3000
    for turns in zip(*rounds, strict=True):
        assert sorted(one.prompt_id for one in turns) == list(range(6))
    first = np.bincount([one.prompt_id for one in rounds[0]], minlength=6)
    assert first.min() > 400  # of 500 expected: five standard deviations
