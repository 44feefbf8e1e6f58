"""How plans are drawn: their distribution, with stated confidence, and what they depend on.

Every statistical test below has one fixed seed and is therefore reproducible. Its bound is that of a two-sided test at
significance 10⁻⁶: with these seeds it passes always, and a correct generator with another seed would fail it once in a
million.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffcore_gpu.plan import MixPlan, PlanConfig, draw_plan
from diffcore_gpu.plan.beta import Beta
from tests.pairs import one_row_each, pairs_of_counts

FIELDS = ("row", "pixel", "lam", "box", "inside_real")
SIGNIFICANCE = 1e-6
N = 100_000


def draw_many(n: int = N, height: int = 64, width: int = 64, **settings: object) -> MixPlan:
    return draw_plan(torch.arange(n), one_row_each(n), height=height, width=width, **settings)


def equal(a: MixPlan, b: MixPlan) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in FIELDS)


def p_of_rate(hits: Tensor, probability: float) -> float:
    return scipy.stats.binomtest(int(hits.sum()), hits.numel(), probability).pvalue


def p_of_independence(a: Tensor, b: Tensor) -> float:
    """Spearman's rank correlation; for booleans it is the phi coefficient."""
    return scipy.stats.spearmanr(a.to(torch.float64).numpy(), b.to(torch.float64).numpy()).pvalue


# What a plan is made of.


def test_types_and_shapes() -> None:
    plan = draw_many(17)
    assert len(plan) == 17
    assert (plan.row.dtype, plan.row.shape) == (torch.int64, (17,))
    assert (plan.pixel.dtype, plan.pixel.shape) == (torch.bool, (17,))
    assert (plan.lam.dtype, plan.lam.shape) == (torch.float32, (17,))
    assert (plan.box.dtype, plan.box.shape) == (torch.int32, (17, 4))
    assert (plan.inside_real.dtype, plan.inside_real.shape) == (torch.bool, (17,))


def test_an_empty_batch_gives_an_empty_plan() -> None:
    assert len(draw_plan(torch.empty(0, dtype=torch.int64), one_row_each(3), height=4, width=4)) == 0


def test_plan_moves_to_a_device() -> None:
    assert draw_many(3).to("meta").box.device.type == "meta"


# Distributions.


@pytest.mark.parametrize("probability", [0.0, 0.03, 0.5, 0.9, 1.0])
def test_bernoulli_rates(probability: float) -> None:
    plan = draw_many(p=probability, seed=1)
    assert p_of_rate(plan.row >= 0, probability) > SIGNIFICANCE
    plan = draw_many(pixel_prob=probability, seed=2)
    assert p_of_rate(plan.pixel, probability) > SIGNIFICANCE
    plan = draw_many(real_patch_prob=probability, seed=3)
    assert p_of_rate(plan.inside_real, probability) > SIGNIFICANCE


@pytest.mark.parametrize("interval", [(0.0, 1.0), (0.2, 0.9), (0.5, 0.500001)])
def test_lam_is_uniform_on_its_interval(interval: tuple[float, float]) -> None:
    low, high = interval
    lam = draw_many(lam=interval, seed=4).lam.to(torch.float64).numpy()
    assert lam.min() >= low - 2**-25
    assert lam.max() <= high + 2**-25
    if high - low > 0.01:
        assert scipy.stats.kstest(lam, "uniform", (low, high - low)).pvalue > SIGNIFICANCE


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_lam_follows_the_beta_distribution(alpha: float) -> None:
    lam = draw_many(lam=Beta(alpha), seed=5).lam.to(torch.float64).numpy()
    # On the grid of 2^-24 a small alpha has visible mass at exactly 0 and 1, so the exact variate is rounded likewise.
    exact = scipy.stats.beta.rvs(alpha, alpha, size=10 * N, random_state=np.random.default_rng(5))
    assert scipy.stats.ks_2samp(lam, np.round(exact * 2**24) / 2**24).pvalue > SIGNIFICANCE


def test_lam_reaches_both_ends_of_a_closed_interval() -> None:
    drawn = draw_many(lam=(0.0, 2**-23), seed=6).lam
    assert sorted(set(drawn.tolist())) == [0.0, 2**-24, 2**-23]


def test_lam_can_be_one_number() -> None:
    assert set(draw_many(100, lam=0.25).lam.tolist()) == {0.25}
    assert set(draw_many(100, lam=1).lam.tolist()) == {1.0}


@given(lam=st.floats(0, 1))
def test_lam_is_the_number_that_was_asked_for_to_within_its_grid(lam: float) -> None:
    assert abs(draw_many(1, lam=lam).lam.item() - lam) <= 2**-25


def test_box_area_is_uniform_before_clipping() -> None:
    # On a large image the side is fine enough to give the area back; inside placement clips nothing.
    size = 4096
    box = draw_many(height=size, width=size, box_placement="inside", box_area=(0.1, 0.6), seed=7).box.to(torch.float64)
    area = ((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]) / size**2).numpy()
    # Rounding down to whole pixels shifts the area by at most 2 sides / size²; below the resolution of the test.
    assert scipy.stats.kstest(area, "uniform", (0.1, 0.5)).pvalue > SIGNIFICANCE


def test_clipped_box_has_a_uniform_centre() -> None:
    size = 1000
    box = draw_many(height=size, width=size, box_area=(0.0, 0.0001), seed=8).box.to(torch.float64)
    for side in (0, 1):  # a box of at most 10 pixels: its upper left corner is the centre to within 5
        start = box[:, side].numpy()
        assert scipy.stats.kstest((start + 5) / size, "uniform").statistic < 0.0175


def test_inside_box_has_a_uniform_position() -> None:
    box = draw_many(height=40, width=80, box_placement="inside", box_area=0.25, seed=9).box
    assert bool(((box[:, 2] - box[:, 0]) == 20).all())
    assert bool(((box[:, 3] - box[:, 1]) == 40).all())
    for start, count in ((box[:, 0], 21), (box[:, 1], 41)):
        observed = torch.bincount(start, minlength=count).numpy()
        assert observed.shape == (count,)
        assert scipy.stats.chisquare(observed).pvalue > SIGNIFICANCE


def test_row_is_uniform_among_a_samples_rows() -> None:
    pairs = pairs_of_counts(torch.full((N,), 3))
    plan = draw_plan(torch.arange(N), pairs, height=8, width=8, seed=10)
    choice = plan.row - 3 * torch.arange(N)
    assert scipy.stats.chisquare(torch.bincount(choice, minlength=3).numpy()).pvalue > SIGNIFICANCE


def test_best_row_is_the_first() -> None:
    pairs = pairs_of_counts(torch.full((50,), 3))
    plan = draw_plan(torch.arange(50), pairs, height=8, width=8, row_choice="best")
    assert torch.equal(plan.row, 3 * torch.arange(50))


# Independence: of the parts of one plan, of samples, of rounds, of seeds.

PARTS = ("pixel", "lam", "top", "left", "inside_real", "area", "applied", "choice")


def parts_of(seed: int, round: int = 0, indices: Tensor | None = None) -> dict[str, Tensor]:
    indices = torch.arange(N) if indices is None else indices
    pairs = pairs_of_counts(torch.full((int(indices.max()) + 1,), 5))
    common = {"height": 512, "width": 512, "seed": seed, "round": round}
    plan = draw_plan(indices, pairs, box_area=0.01, **common)
    free = draw_plan(indices, pairs, box_placement="inside", **common)
    return {
        "pixel": plan.pixel,
        "lam": plan.lam,
        "top": plan.box[:, 0],
        "left": plan.box[:, 1],
        "inside_real": plan.inside_real,
        "area": free.box[:, 2] - free.box[:, 0],
        "applied": draw_plan(indices, pairs, p=0.5, **common).row >= 0,
        "choice": plan.row - 5 * indices,
    }


def test_parts_of_a_plan_are_independent() -> None:
    parts = parts_of(seed=11)
    worst = min(p_of_independence(parts[a], parts[b]) for a, b in itertools.combinations(PARTS, 2))
    assert worst > SIGNIFICANCE


@pytest.mark.parametrize("part", PARTS)
def test_samples_rounds_and_seeds_are_independent(part: str) -> None:
    first = parts_of(seed=12)[part]
    assert p_of_independence(first[:-1], first[1:]) > SIGNIFICANCE, "neighbouring samples"
    assert p_of_independence(first, parts_of(seed=12, round=1)[part]) > SIGNIFICANCE, "neighbouring rounds"
    assert p_of_independence(first, parts_of(seed=13)[part]) > SIGNIFICANCE, "neighbouring seeds"


def test_seed_words_round_and_index_words_all_count() -> None:
    index = torch.tensor([7])
    pairs = one_row_each(8)

    def lam(**changed: int) -> float:
        return draw_plan(index, pairs, height=8, width=8, **{"seed": 3, "round": 2, **changed}).lam.item()

    values = [lam(), lam(seed=3 + 2**32), lam(seed=4), lam(round=3), lam(seed=3 - 2**63)]
    assert len(set(values)) == len(values)
    assert lam(round=2 + 2**32) == lam()  # the round counts modulo 2^32


# What a plan depends on, and what not.


@given(
    order=st.permutations(range(12)),
    cuts=st.sets(st.integers(1, 11), max_size=4),
    seed=st.integers(0, 2**64 - 1),
    round=st.integers(0, 2**32 - 1),
)
@settings(max_examples=50)
def test_a_sample_is_drawn_alike_in_any_batch(order: list[int], cuts: set[int], seed: int, round: int) -> None:
    pairs = pairs_of_counts(torch.tensor([0, 1, 2, 3, 0, 1, 5, 1, 1, 0, 2, 4]))
    common = {"height": 31, "width": 57, "seed": seed, "round": round, "p": 0.8}
    whole = draw_plan(torch.arange(12), pairs, **common)
    edges = [0, *sorted(cuts), 12]
    pieces = [draw_plan(torch.tensor(order[a:b]), pairs, **common) for a, b in itertools.pairwise(edges)]
    for name in FIELDS:
        together = torch.cat([getattr(piece, name) for piece in pieces])
        assert torch.equal(together, getattr(whole, name)[torch.tensor(order)])


def test_round_may_be_a_tensor() -> None:
    assert equal(draw_many(50, round=9), draw_many(50, round=torch.tensor([9])))


@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    area=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted).map(tuple),
    placement=st.sampled_from(["clipped", "inside"]),
)
def test_boxes_are_never_empty_and_lie_in_the_image(
    height: int, width: int, area: tuple[float, float], placement: str
) -> None:
    top, left, bottom, right = draw_many(64, height, width, box_area=area, box_placement=placement).box.T
    assert bool(((top >= 0) & (left >= 0) & (bottom <= height) & (right <= width)).all())
    assert bool(((top < bottom) & (left < right)).all())


def test_an_area_of_one_inside_is_the_whole_image() -> None:
    assert draw_many(4, 30, 50, box_area=1, box_placement="inside").box.tolist() == [[0, 0, 30, 50]] * 4


def test_samples_without_rows_and_empty_stores_pass() -> None:
    pairs = pairs_of_counts(torch.tensor([0, 2, 0]))
    assert draw_plan(torch.arange(3), pairs, height=4, width=4).row.tolist()[::2] == [-1, -1]
    empty = pairs_of_counts(torch.zeros(3, dtype=torch.int64))
    assert draw_plan(torch.arange(3), empty, height=4, width=4).row.tolist() == [-1] * 3


# Every arm of Table 7 can be selected.


@pytest.mark.parametrize(
    ("settings", "pixel_rate", "mixed_rate"),
    [
        ({"p": 0.0}, 0.5, 0.0),  # baseline
        ({"p": 0.5, "pixel_prob": 1.0, "lam": 0.0}, 1.0, 0.5),  # GenAug: half of the images are counterparts
        ({"pixel_prob": 1.0}, 1.0, 1.0),  # pixel-wise
        ({"pixel_prob": 0.0}, 0.0, 1.0),  # patch-wise
        ({}, 0.5, 1.0),  # both: DiffCoRe-Mix-100 when the store covers every sample
    ],
)
def test_arms_of_table_7(settings: dict[str, float], pixel_rate: float, mixed_rate: float) -> None:
    plan = draw_many(seed=14, **settings)
    assert p_of_rate(plan.pixel, pixel_rate) > SIGNIFICANCE
    assert p_of_rate(plan.row >= 0, mixed_rate) > SIGNIFICANCE


def test_coverage_of_half_is_half_of_the_samples() -> None:
    counts = (torch.arange(1000) % 2 == 0).to(torch.int64)
    plan = draw_plan(torch.arange(1000), pairs_of_counts(counts), height=4, width=4)
    assert torch.equal(plan.row >= 0, counts == 1)


# Bad settings.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"p": 1.5}, "p must lie in"),
        ({"p": float("nan")}, "p must lie in"),
        ({"pixel_prob": -0.1}, "pixel_prob must lie in"),
        ({"pixel_prob": "half"}, "pixel_prob must be a number"),
        ({"real_patch_prob": True}, "real_patch_prob must be a number"),
        ({"lam": (0.7, 0.2)}, "low ≤ high"),
        ({"lam": (0.1, 0.2, 0.3)}, "an interval"),
        ({"lam": "beta"}, "an interval"),
        ({"lam": 2}, "lam must lie in"),
        ({"box_area": (0.0, 1.2)}, "box_area must lie in"),
        ({"box_placement": "centre"}, 'box_placement must be "clipped" or "inside"'),
        ({"row_choice": "worst"}, 'row_choice must be "random" or "best"'),
    ],
)
def test_bad_settings_are_refused_by_name(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PlanConfig(**settings)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (torch.tensor([[1]]), "int64 vector"),
        (torch.tensor([1.0]), "int64 vector"),
        (torch.tensor([1], dtype=torch.int32), "int64 vector"),
        (torch.tensor([0, 3]), "index 3 is outside the store, which was made for 3 samples"),
        (torch.tensor([-1]), "index -1 is outside"),
    ],
)
def test_bad_indices_are_refused(index: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_plan(index, one_row_each(3), height=4, width=4)


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        draw_plan(torch.tensor([0]), one_row_each(1), height=0, width=4)


def test_rates_are_exact_at_the_ends() -> None:
    assert np.all(draw_many(p=0.0).row.numpy() == -1)
    assert np.all(draw_many(p=1.0).row.numpy() >= 0)
