"""The CPU path against the reference, and its memory."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffcore_gpu.ops.mix.cpu_torch import Shards, mix_cpu
from diffcore_gpu.ops.mix.reference import mix_reference
from diffcore_gpu.ops.runtime.normalization import affine_of
from diffcore_gpu.plan import MixPlan, draw_plan
from tests.ops.cpu_cases import MEAN, STD, any_box, patched, random_batch, random_images
from tests.pairs import one_row_each
from tests.ulp import ulps_apart

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.uint8)


@given(
    batch=st.integers(0, 6),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40)),
    dtype=st.sampled_from(DTYPES[:1] + DTYPES[2:]),
    channels_last=st.booleans(),
    inplace=st.booleans(),
    lam=st.sampled_from([0.0, 1.0, 0.5, (0.0, 1.0)]),
    cut=st.integers(0, 9),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=150)
def test_equals_the_reference(
    batch: int, shape: tuple[int, int, int], dtype: torch.dtype, channels_last: bool, inplace: bool, lam: object,
    cut: int, seed: int,
) -> None:  # fmt: skip
    images, rows, plan = random_batch(batch, shape, dtype, channels_last, lam, seed)
    mean, std = MEAN[: shape[0]], STD[: shape[0]]
    expected = mix_reference(images, rows[plan.row.clamp(min=0)], plan, mean=mean, std=std)
    untouched = images.clone()
    out = images if inplace else torch.empty_like(images)
    mix_cpu(images, out, [rows[:cut], rows[cut:]], affine_of(mean, std, shape[0]), plan)
    assert out.stride() == untouched.stride()
    assert ulps_apart(out, expected) <= (0 if dtype == torch.uint8 else 1)
    if not inplace:
        assert torch.equal(images, untouched)


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("inplace", [False, True])
def test_images_larger_than_a_block(
    dtype: torch.dtype, memory_format: torch.memory_format, inplace: bool, generator: torch.Generator
) -> None:
    shape = (6, 3, 420, 310)
    images = random_images(shape, dtype, generator).to(memory_format=memory_format)
    rows = random_images(shape, torch.uint8, generator)
    plan = draw_plan(torch.arange(6), one_row_each(6), height=420, width=310, seed=3)
    plan = dataclasses.replace(plan, pixel=torch.arange(6) < 2, inside_real=torch.arange(6) % 2 == 0)
    expected = mix_reference(images, rows, plan, mean=MEAN[:3], std=STD[:3])
    out = images if inplace else torch.empty_like(images)
    mix_cpu(images, out, [rows], affine_of(MEAN[:3], STD[:3], 3), plan)
    assert ulps_apart(out, expected) <= (0 if dtype == torch.uint8 else 1)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_lines_longer_than_a_block(memory_format: torch.memory_format, generator: torch.Generator) -> None:
    shape = (2, 3, 3, 100_000)
    images = random_images(shape, torch.float32, generator).to(memory_format=memory_format)
    rows = random_images(shape, torch.uint8, generator)
    plan = draw_plan(torch.arange(2), one_row_each(2), height=3, width=100_000)
    plan = dataclasses.replace(plan, pixel=torch.tensor([True, False]))
    out = torch.empty_like(images)
    mix_cpu(images, out, [rows], affine_of(None, None, 3), plan)
    assert ulps_apart(out, mix_reference(images, rows, plan)) <= 1


@any_box
def test_boxes_of_given_plans_may_leave_the_image_or_be_empty(
    box: tuple[int, ...], inside_real: bool, dtype: torch.dtype, channels_last: bool, inplace: bool
) -> None:
    out, expected = patched(mix_cpu, box, inside_real, dtype, channels_last, inplace)
    assert ulps_apart(out, expected) <= (0 if dtype == torch.uint8 else 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("lam", [0.25, 0.75])
def test_values_that_are_not_finite_stay_so(dtype: torch.dtype, value: float, lam: float) -> None:
    images = torch.full((1, 3, 8, 8), value, dtype=dtype)
    rows = torch.full((1, 3, 8, 8), 200, dtype=torch.uint8)
    plan = draw_plan(torch.arange(1), one_row_each(1), height=8, width=8, pixel_prob=1, lam=lam)
    out = torch.empty_like(images)
    mix_cpu(images, out, [rows], affine_of(None, None, 3), plan)
    torch.testing.assert_close(out, images, equal_nan=True)


def test_scratch_memory_of_inference_mode_serves_outside_of_it(generator: torch.Generator) -> None:
    """Memory and constants are kept from call to call; what that mode makes could not be written to later."""
    shape = (2, 3, 17, 300)  # a size of its own, so that the scratch memory grows in the mode
    images, rows = torch.randn(shape, generator=generator), random_images(shape, torch.uint8, generator)
    plan = draw_plan(torch.arange(2), one_row_each(2), height=17, width=300)
    plan = dataclasses.replace(plan, pixel=torch.tensor([True, False]))
    norm = affine_of(0.4321, 0.1234, 3)

    def mixed_in_thread() -> torch.Tensor:
        with torch.inference_mode():
            mix_cpu(images, torch.empty_like(images), [rows], norm, plan)
        out = torch.empty_like(images)
        mix_cpu(images, out, [rows], norm, plan)
        return out

    with ThreadPoolExecutor(1) as pool:  # a new thread has no scratch memory yet
        out = pool.submit(mixed_in_thread).result()
    assert ulps_apart(out, mix_reference(images, rows, plan, mean=(0.4321,) * 3, std=(0.1234,) * 3)) <= 1


def test_threads_mix_at_the_same_time(generator: torch.Generator) -> None:
    shape = (8, 3, 50, 60)
    images, rows = torch.randn(shape, generator=generator), random_images(shape, torch.uint8, generator)
    norm = affine_of(MEAN[:3], STD[:3], 3)
    plans = [draw_plan(torch.arange(8), one_row_each(8), height=50, width=60, seed=seed) for seed in range(24)]

    def mixed(plan: MixPlan) -> torch.Tensor:
        out = torch.empty_like(images)
        mix_cpu(images, out, [rows], norm, plan)
        return out

    with ThreadPoolExecutor(4) as pool:
        for plan, out in zip(plans, pool.map(mixed, plans), strict=True):
            assert ulps_apart(out, mix_reference(images, rows, plan, mean=MEAN[:3], std=STD[:3])) <= 1


@pytest.mark.filterwarnings("ignore::UserWarning:torch.profiler")  # torch 2.11 warns that there is no GPU to profile
@pytest.mark.parametrize("pixel", [True, False])
def test_nothing_of_the_size_of_the_batch_is_allocated(pixel: bool, generator: torch.Generator) -> None:
    shape = (16, 3, 64, 64)
    images, rows = torch.randn(shape, generator=generator), random_images(shape, torch.uint8, generator)
    plan = draw_plan(torch.arange(16), one_row_each(16), height=64, width=64)
    plan = dataclasses.replace(plan, pixel=torch.full((16,), pixel))
    out, norm = torch.empty_like(images), affine_of(None, None, 3)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        mix_cpu(images, out, [rows], norm, plan)
    largest = max(event.self_cpu_memory_usage for event in profile.events())
    assert largest <= 2 * images[0].nbytes  # one image in float64


def test_shards_count_through() -> None:
    rows = torch.arange(7, dtype=torch.uint8).reshape(7, 1, 1, 1)
    shards = Shards([rows[:3], rows[3:3], rows[3:]])
    assert len(shards) == 7
    assert [shards[row].item() for row in range(7)] == list(range(7))
