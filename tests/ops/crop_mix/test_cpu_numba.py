"""The compiled crop on the CPU: against the float64 references, and the same whatever shares the work."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

pytest.importorskip("numba", reason='numba is not installed; it is the extra "cpu"')

from diffcore_gpu.ops.crop_mix import cpu_numba, op
from diffcore_gpu.ops.crop_mix.cpu_numba import crop_mix_compiled, resized_crop_compiled
from diffcore_gpu.ops.crop_mix.numba_kernels import Argument
from diffcore_gpu.ops.crop_mix.reference import crop_mix_reference
from diffcore_gpu.ops.resized_crop.reference import resized_crop_reference
from diffcore_gpu.ops.runtime import numba_code
from diffcore_gpu.ops.runtime.normalization import affine_of
from diffcore_gpu.plan import MixPlan

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.uint8]
MEAN, STD = [0.485, 0.456, 0.406] * 3, [0.229, 0.224, 0.225] * 3

sides = st.one_of(st.integers(1, 12), st.integers(1, 90))
corners = st.integers(-5, 95)


@st.composite
def boxes(draw: st.DrawFn, count: int) -> Tensor:
    """int32 [count, 4], in the image, beyond it, or empty."""
    return torch.tensor(draw(st.lists(st.tuples(*[corners] * 4), min_size=count, max_size=count)), dtype=torch.int32)


@st.composite
def plans(draw: st.DrawFn, count: int, rows: int) -> MixPlan:
    def flags() -> Tensor:
        return torch.tensor(draw(st.lists(st.booleans(), min_size=count, max_size=count)))

    lam = st.one_of(st.sampled_from([0.0, 0.25, 1.0]), st.floats(0, 1, width=32))
    return MixPlan(
        row=torch.tensor(draw(st.lists(st.integers(-1, rows - 1), min_size=count, max_size=count))),
        pixel=flags(),
        lam=torch.tensor(draw(st.lists(lam, min_size=count, max_size=count)), dtype=torch.float32),
        box=draw(boxes(count)),
        inside_real=flags(),
        crop=draw(boxes(count)),
        mirror=flags(),
        counterpart_crop=draw(boxes(count)),
        counterpart_mirror=flags(),
    )


def empty(shape: tuple[int, ...], dtype: torch.dtype, channels_last: bool) -> Tensor:
    """Memory whose values are none that belong there."""
    out = torch.empty(
        shape, dtype=dtype, memory_format=torch.channels_last if channels_last else torch.contiguous_format
    )
    return out.fill_(77 if dtype == torch.uint8 else float("nan"))


def is_rounded(out: Tensor, exact: Tensor) -> bool:
    """Whether values are the exact ones, computed with an error of float32 and rounded once."""
    error = 3e-5 if out.dtype != torch.uint8 else 1e-3
    if out.dtype == torch.float32:
        return bool(((out.double() - exact).abs() <= error).all())
    if out.dtype == torch.uint8:
        return bool(((out.double() - exact * 255).abs() <= 0.5 + error).all())
    low, high = (exact - error).to(out.dtype), (exact + error).to(out.dtype)
    return bool(((low <= out) & (out <= high)).all())


@given(
    plan=plans(3, 4),
    channels=st.integers(1, 9),
    source=st.tuples(sides, sides),
    counterpart=st.tuples(sides, sides),
    size=st.tuples(sides, sides),
    dtype=st.sampled_from(DTYPES),
    source_channels_last=st.booleans(),
    channels_last=st.booleans(),
    cut=st.integers(0, 4),
)
@settings(max_examples=150)
def test_equals_the_reference(
    plan: MixPlan, channels: int, source: tuple[int, int], counterpart: tuple[int, int], size: tuple[int, int],
    dtype: torch.dtype, source_channels_last: bool, channels_last: bool, cut: int,
) -> None:  # fmt: skip
    generator = torch.Generator().manual_seed(channels)
    images = torch.randint(0, 256, (3, channels, *source), generator=generator, dtype=torch.uint8)
    rows = torch.randint(0, 256, (4, channels, *counterpart), generator=generator, dtype=torch.uint8)
    mean, std = (None, None) if dtype == torch.uint8 else (MEAN[:channels], STD[:channels])
    expected = crop_mix_reference(images, rows[plan.row.clamp(min=0)], plan, size, mean=mean, std=std)
    out = empty((3, channels, *size), dtype, channels_last)
    given_images = images.to(memory_format=torch.channels_last) if source_channels_last else images
    crop_mix_compiled(given_images, out, [rows[:cut], rows[cut:]], affine_of(mean, std, channels), plan)
    assert is_rounded(out, expected)


@given(
    crop=boxes(2),
    mirror=st.lists(st.booleans(), min_size=2, max_size=2).map(torch.tensor),
    channels=st.integers(1, 9),
    source=st.tuples(sides, sides),
    size=st.tuples(sides, sides),
    dtype=st.sampled_from(DTYPES),
    channels_last=st.booleans(),
)
@settings(max_examples=100)
def test_a_crop_alone_equals_the_reference(
    crop: Tensor, mirror: Tensor, channels: int, source: tuple[int, int], size: tuple[int, int], dtype: torch.dtype,
    channels_last: bool,
) -> None:  # fmt: skip
    generator = torch.Generator().manual_seed(channels)
    images = torch.randint(0, 256, (2, channels, *source), generator=generator, dtype=torch.uint8)
    out = empty((2, channels, *size), dtype, channels_last)
    resized_crop_compiled(images, out, affine_of(None, None, channels), crop, mirror)
    assert is_rounded(out, resized_crop_reference(images, crop, size, mirror=mirror))


def mixed_plan(batch: int, rows: int, height: int, width: int) -> MixPlan:
    """A plan in which everything occurs."""
    number = torch.arange(batch)
    box = torch.stack([number % 5, number % 7, height - number % 6, width - number % 4], dim=1).to(torch.int32)
    return MixPlan(
        row=number % (rows + 1) - 1, pixel=number % 2 == 0, lam=(number % 5) / 4, box=box, inside_real=number % 3 == 0,
        crop=box, mirror=number % 4 < 2, counterpart_crop=box.flip(0), counterpart_mirror=number % 8 < 4,
    )  # fmt: skip


@pytest.fixture
def _same_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_same_threads")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 3, 150, 130), (40, 3, 61, 67), (3, 5, 90, 80)])
def test_any_number_of_threads_gives_the_same(
    dtype: torch.dtype, shape: tuple[int, int, int, int], generator: torch.Generator
) -> None:
    """Few images are cut into bands of lines, many are not."""
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    rows = torch.randint(0, 256, (5, *shape[1:]), generator=generator, dtype=torch.uint8)
    plan = mixed_plan(shape[0], 5, *shape[2:])
    results = []
    for threads in (1, 2, 7):
        torch.set_num_threads(threads)
        out = empty(shape, dtype, channels_last=False)
        crop_mix_compiled(images, out, [rows], affine_of(None, None, shape[1]), plan)
        results.append(out)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_numba_torch_gives_the_same_within_rounding(
    dtype: torch.dtype, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = torch.randint(0, 256, (9, 3, 50, 40), generator=generator, dtype=torch.uint8)
    rows = torch.randint(0, 256, (5, 3, 60, 70), generator=generator, dtype=torch.uint8)
    plan = mixed_plan(9, 5, 50, 40)
    compiled = op.crop_mix(images, rows, plan, (48, 44), dtype=dtype)
    monkeypatch.setattr(op, "crops_compiled", lambda: False)
    monkeypatch.setattr(op, "crop_mix_compiled", None)
    in_torch = op.crop_mix(images, rows, plan, (48, 44), dtype=dtype)
    # torch computes the weights of the taps in float32.
    tolerance = {torch.float32: 1e-5, torch.float16: 2**-11, torch.bfloat16: 2**-8, torch.uint8: 1}[dtype]
    torch.testing.assert_close(compiled.double(), in_torch.double(), rtol=0, atol=tolerance)


def test_large_images_and_far_reductions(generator: torch.Generator) -> None:
    """Hundreds of taps for a pixel."""
    images = torch.randint(0, 256, (2, 3, 700, 900), generator=generator, dtype=torch.uint8)
    whole = torch.tensor([[0, 0, 700, 900]] * 2, dtype=torch.int32)
    mirror = torch.tensor([False, True])
    for size in ((1, 1), (3, 2), (5, 900), (700, 4)):
        out = empty((2, 3, *size), torch.float32, channels_last=False)
        resized_crop_compiled(images, out, affine_of(None, None, 3), whole, mirror)
        assert is_rounded(out, resized_crop_reference(images, whole, size, mirror=mirror))


def test_a_plan_may_have_any_strides(generator: torch.Generator) -> None:
    images = torch.randint(0, 256, (6, 3, 20, 30), generator=generator, dtype=torch.uint8)
    plan = mixed_plan(6, 6, 20, 30)
    assert plan.crop is not None
    strided = dataclasses.replace(
        plan, box=plan.box.t().contiguous().t(), lam=plan.lam.repeat_interleave(2)[::2],
        crop=plan.crop.t().contiguous().t(), row=plan.row.repeat_interleave(2)[::2],
    )  # fmt: skip
    one, other = (empty((6, 3, 20, 30), torch.float32, channels_last=False) for _ in range(2))
    crop_mix_compiled(images, one, [images], affine_of(None, None, 3), plan)
    crop_mix_compiled(images, other, [images], affine_of(None, None, 3), strided)
    assert torch.equal(one, other)


def test_arguments_stand_where_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """By their names: the addresses of the tensors of a plan, and sizes that differ."""
    seen: list[int] = []

    def look(function: int, arguments: int, threads: int) -> None:
        import ctypes

        seen.extend((ctypes.c_int64 * len(Argument)).from_address(arguments))

    monkeypatch.setattr(cpu_numba, "run_on_threads", look)
    images, rows = (torch.zeros(6, 2, *size, dtype=torch.uint8) for size in ((20, 30), (21, 31)))
    plan, out = mixed_plan(6, 6, 20, 30), torch.zeros(6, 2, 8, 9)
    crop_mix_compiled(images, out, [rows], affine_of(None, None, 2), plan)
    fields: dict[str, Any] = {
        "CROP": plan.crop, "MIRROR": plan.mirror, "COUNTERPART_CROP": plan.counterpart_crop, "BOX": plan.box,
        "COUNTERPART_MIRROR": plan.counterpart_mirror, "PIXEL": plan.pixel, "LAM": plan.lam, "IMAGES": images,
        "INSIDE_REAL": plan.inside_real, "OUT": out,
    }  # fmt: skip
    values = {
        **{name: field.data_ptr() for name, field in fields.items()},
        "BATCH": 6, "CHANNELS": 2, "HEIGHT": 8, "WIDTH": 9, "IMAGES_HEIGHT": 20, "IMAGES_WIDTH": 30,
        "COUNTERPARTS_HEIGHT": 21, "COUNTERPARTS_WIDTH": 31, "NEXT": 0, "NEXT_THREAD": 0,
    }  # fmt: skip
    assert {name: seen[getattr(Argument, name)] for name in values} == values


def test_the_output_dtypes_are_compiled() -> None:
    assert cpu_numba.crops_compiled()
    assert set(cpu_numba._FUNCTIONS) == set(DTYPES)
    assert all(numba_code.compiled(cpu_numba._MODULE, name).address for name in cpu_numba._FUNCTIONS.values())
