"""The plan drawn on the CPU: bit for bit that of `diffcore_gpu.plan.draw`."""

import dataclasses
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffcore_gpu.ops.runtime.draw_cpu import draw_cpu, draw_words
from diffcore_gpu.plan import STREAM_BOX, STREAM_CHOICE, BoxPlacement, MixPlan, Pairs, PlanConfig, draw_mix
from diffcore_gpu.plan.philox import philox4x32, split_words
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


@given(index=st.lists(INT64, max_size=40), round=INT64, key=st.integers(-(2**63), 2**64 - 1))
@settings(deadline=None)
def test_words_are_philoxs(index: list[int], round: int, key: int) -> None:
    samples = torch.tensor(index, dtype=torch.int64)
    words = torch.from_numpy(draw_words(samples.numpy(), round, key).copy())
    assert words.shape == (4, 2, len(index))
    counter = *split_words(samples), split_words(torch.tensor(round))[0]
    for place, stream in enumerate((STREAM_CHOICE, STREAM_BOX)):
        expected = philox4x32((*counter, torch.tensor(stream)), key)
        assert torch.equal(words[:, place], torch.stack(expected))


def test_a_known_answer() -> None:
    """The published vector of counter 0 and key 0, which is sample 0, round 0, stream 0."""
    words = draw_words(torch.zeros(1, dtype=torch.int64).numpy(), 0, 0)[:, 0, 0].tolist()
    assert words == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


@given(drawings)
@settings(max_examples=300, deadline=None)
def test_equals_the_plan_of_torch(drawing: Drawing) -> None:
    index, pairs, config, common = drawing
    arguments = index, pairs, config.parameters(), config.lam_table()
    assert same(draw_cpu(*arguments, **common), draw_mix(*arguments, **common))


@pytest.mark.parametrize("height", [1, 224, 4096])
@pytest.mark.parametrize("placement", ["clipped", "inside"])
def test_many_samples_equal_the_plan_of_torch(height: int, placement: BoxPlacement) -> None:
    index, pairs, config, common = many_boxes(height, placement)
    arguments = index, pairs, config.parameters(), None
    assert same(draw_cpu(*arguments, **common), draw_mix(*arguments, **common))


def rounded_root(area: int) -> Fraction:
    """√area rounded to the 24 bits of a float32, to nearest, from integers alone."""
    if not area:
        return Fraction(0)
    shift = 30  # more than enough bits below the point; the parity of the length does not matter
    root = math.isqrt(area << 2 * shift)
    drop = root.bit_length() - 24
    return Fraction((root + (1 << drop - 1)) >> drop) * 2**drop / 2**shift


@given(area=st.one_of(st.integers(0, 2**24), st.sampled_from(EDGES)), size=st.sampled_from([1, 32, 224, 256, 333, 512]))
@settings(deadline=None)
def test_sides_follow_from_exactly_rounded_roots(area: int, size: int) -> None:
    side = rounded_root(area) / 2**12
    product = side * size  # of two float32, rounded to one
    if product:
        unit = Fraction(2) ** (math.floor(math.log2(product)) - 23)
        product = round(product / unit) * unit
    expected = min(max(int(product), 1), size)
    config = PlanConfig(box_area=area / 2**24, box_placement="inside")
    fake = pairs_of_counts(torch.ones(1, dtype=torch.int64))
    arguments = torch.zeros(1, dtype=torch.int64), Pairs(fake.pair_ptr, fake.pair_row, 1), config.parameters(), None
    common = {"height": size, "width": size, "seed": 0, "round": torch.tensor(0)}
    for plan in (draw_cpu(*arguments, **common), draw_mix(*arguments, **common)):
        top, left, bottom, right = plan.box[0].tolist()
        assert (bottom - top, right - left) == (expected, expected)
