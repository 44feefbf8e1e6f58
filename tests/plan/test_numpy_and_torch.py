"""Plans and crops drawn in NumPy and in torch: the same, bit for bit."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffcore_gpu.kernels.spec import SAMPLE_BITS
from diffcore_gpu.plan import BoxPlacement, MixPlan, Pairs, PlanConfig, draw_mix
from diffcore_gpu.plan.crops import RandomResizedCropMirror, central_crop
from diffcore_gpu.plan.draw import draw_crop
from diffcore_gpu.plan.philox import philox4x32
from tests.ops.cpu_cases import INT64, Drawing, drawings, many_boxes
from tests.pairs import pairs_of_counts

EDGES = [3017665, 3547303, 3756951, 3972618, 9486399, 9535743, 9684543, 9734399, 16627753, 16711743, 16777215]
"""Areas at which a root that is wrong in its last bit gives a side that is wrong by a pixel, at 224 or 512 pixels."""


def same(one: MixPlan, other: MixPlan) -> bool:
    """Whether two plans agree in every bit, dtype and shape."""
    for field in dataclasses.fields(MixPlan):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if (a is None) != (b is None) or (a is not None and (a.dtype != b.dtype or not torch.equal(a, b))):
            return False
    return True


def both(index: Tensor, pairs: Pairs, config: PlanConfig, common: dict[str, Any]) -> tuple[MixPlan, MixPlan]:
    """The plan as NumPy and as torch draw it."""
    arguments = index, pairs, config.parameters(), config.lam_table()
    return draw_mix(*arguments, **common, numpy=True), draw_mix(*arguments, **common, numpy=False)


@pytest.mark.parametrize("xp", [np, torch])
def test_known_answers(xp: Any) -> None:
    """The published vectors of Philox4x32-10: counter and key 0, and all ones."""
    zeros = philox4x32((xp.zeros(1, dtype=xp.int64),) * 4, 0)
    assert [int(word[0]) for word in zeros] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    ones = philox4x32((xp.full((1,), 0xFFFFFFFF, dtype=xp.int64),) * 4, -1)
    assert [int(word[0]) for word in ones] == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]


@given(drawings)
@settings(max_examples=300)
def test_equals_the_plan_of_torch(drawing: Drawing) -> None:
    assert same(*both(*drawing))


@pytest.mark.parametrize("height", [1, 224, 4096])
@pytest.mark.parametrize("placement", ["clipped", "inside"])
def test_many_samples_equal_the_plan_of_torch(height: int, placement: BoxPlacement) -> None:
    assert same(*both(*many_boxes(height, placement)))


@given(
    index=st.lists(INT64, max_size=40),
    round=INT64,
    seed=st.integers(-(2**63), 2**64 - 1),
    size=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    scale=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted).map(tuple),
    ratio=st.tuples(st.floats(0.2, 5), st.floats(0.2, 5)).map(sorted).map(tuple),
    counterpart=st.booleans(),
)
@settings(max_examples=200)
def test_crops_are_the_same(
    index: list[int], round: int, seed: int, size: tuple[int, int], scale: tuple[float, float],
    ratio: tuple[float, float], counterpart: bool,
) -> None:  # fmt: skip
    config = RandomResizedCropMirror((8, 8), scale=scale, ratio=ratio)
    *area, mirror_below = config.parameters()
    drawn = [
        draw_crop(
            torch.tensor(index, dtype=torch.int64), tuple(area), mirror_below, central_crop(*size, ratio),
            config.side_table(), height=size[0], width=size[1], seed=seed, round=torch.tensor(round),
            counterpart=counterpart, numpy=numpy,
        )
        for numpy in (True, False)
    ]  # fmt: skip
    for one, other in zip(*drawn, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


@given(drawings, st.integers(1, 2**22 - 1))
def test_an_occurrence_draws_anew_for_the_same_sample(drawing: Drawing, occurrence: int) -> None:
    index, pairs, _, common = drawing
    known = index[(index >= 0) & (index < len(pairs.pair_ptr) - 1)]
    (first, _), (again, _) = (both(i, pairs, PlanConfig(), common) for i in (known, known | occurrence << SAMPLE_BITS))
    for sample, one, other in zip(known.tolist(), first.row.tolist(), again.row.tolist(), strict=True):
        of_sample = pairs.pair_row[pairs.pair_ptr[sample] : pairs.pair_ptr[sample + 1]].tolist()
        rows = {row if row < pairs.num_rows else -1 for row in of_sample} or {-1}
        assert {one, other} <= rows
    assert len(known) < 8 or not torch.equal(first.lam, again.lam)


def rounded_root(area: int) -> Fraction:
    """√area rounded to the 24 bits of a float32, to nearest, from integers alone."""
    if not area:
        return Fraction(0)
    shift = 30  # more than enough bits below the point; the parity of the length does not matter
    root = math.isqrt(area << 2 * shift)
    drop = root.bit_length() - 24
    return Fraction((root + (1 << drop - 1)) >> drop) * 2**drop / 2**shift


@given(area=st.one_of(st.integers(0, 2**24), st.sampled_from(EDGES)), size=st.sampled_from([1, 32, 224, 256, 333, 512]))
def test_sides_follow_from_exactly_rounded_roots(area: int, size: int) -> None:
    side = rounded_root(area) / 2**12
    product = side * size  # of two float32, rounded to one
    if product:
        unit = Fraction(2) ** (math.floor(math.log2(product)) - 23)
        product = round(product / unit) * unit
    expected = min(max(int(product), 1), size)
    config = PlanConfig(box_area=area / 2**24, box_placement="inside")
    fake = pairs_of_counts(torch.ones(1, dtype=torch.int64))
    common = {"height": size, "width": size, "seed": 0, "round": torch.tensor(0)}
    for plan in both(torch.zeros(1, dtype=torch.int64), Pairs(fake.pair_ptr, fake.pair_row, 1), config, common):
        top, left, bottom, right = plan.box[0].tolist()
        assert (bottom - top, right - left) == (expected, expected)
