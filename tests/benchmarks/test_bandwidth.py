"""The bytes that the bandwidth benchmark counts, and its table."""

import bandwidth
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffcore_gpu import draw_plan
from diffcore_gpu.ops.reference import real_weight
from tests.pairs import pairs_of_counts


@given(
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    channels=st.integers(1, 4),
    itemsize=st.sampled_from([1, 2, 4]),
    lam=st.sampled_from([0.0, 1.0, (0.0, 1.0)]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_bytes_are_those_of_each_pixel(
    height: int, width: int, channels: int, itemsize: int, lam: object, seed: int
) -> None:
    pairs = pairs_of_counts(torch.tensor([0, 1, 2, 1, 3, 0, 1]))
    plan = draw_plan(torch.arange(7), pairs, height=height, width=width, seed=seed, lam=lam)
    weight = real_weight(plan, height, width)  # of the real image, at each pixel
    per_value = itemsize * (1 + (weight > 0)) + (weight < 1).to(torch.int64)
    expected = int(per_value.sum()) * channels
    assert bandwidth.bytes_that_must_move(plan, channels, height, width, itemsize) == expected


def test_floor_of_a_known_batch() -> None:
    """256×3×224×224 in bfloat16, pixel-wise: 2 + 1 + 2 bytes for each value."""
    pairs = pairs_of_counts(torch.ones(256, dtype=torch.int64))
    plan = draw_plan(torch.arange(256), pairs, height=224, width=224, pixel_prob=1)
    assert bandwidth.bytes_that_must_move(plan, 3, 224, 224, 2) == 256 * 3 * 224 * 224 * 5


def test_rates_and_table() -> None:
    names = ("copy", "large copy", "pixel", "patch", "default")
    times = {name: {"median_ms": 2.0} for name in names}
    moved = dict(zip(names, (4_000_000, 8_000_000, 3_000_000, 2_000_000, 1_000_000), strict=True))
    rates = bandwidth.fractions(times, moved)
    assert rates["pixel"] == pytest.approx({"gb_per_s": 1.5, "of_copy": 0.75, "of_large_copy": 0.375})
    case = {"dtype": "uint8", "memory_format": "contiguous", "size": 224, "batch": 16, "rates": rates, "times": times}
    header, line = bandwidth.report([case]).split("\n")
    assert header.split()[-4:] == ["copy", "GB/s", "large", "GB/s"]
    expected = "uint8 contiguous 224 16  2000.0 0.75 0.38  2000.0 0.50 0.25  2000.0 0.25 0.12  2 4"
    assert " ".join(line.split()) == " ".join(expected.split())
