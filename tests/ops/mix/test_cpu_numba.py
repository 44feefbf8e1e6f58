"""The compiled CPU path: the plan of `diffcore_gpu.plan.draw` and the images of the path in torch, bit for bit."""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba", reason='numba is not installed; it is the extra "cpu"')

from diffcore_gpu.kernels.spec import SAMPLE_MASK
from diffcore_gpu.ops.mix import cpu_numba
from diffcore_gpu.ops.mix.cpu_numba import CompiledMix, cpu_backend, mix_compiled
from diffcore_gpu.ops.mix.cpu_torch import mix_cpu
from diffcore_gpu.ops.mix.numba_kernels import Argument
from diffcore_gpu.ops.mix.reference import mix_reference
from diffcore_gpu.ops.runtime import numba_code
from diffcore_gpu.ops.runtime.normalization import affine_of
from diffcore_gpu.ops.runtime.numba_code import compiled
from diffcore_gpu.plan import BoxPlacement, MixPlan, Pairs, PlanConfig, draw_mix, draw_plan
from diffcore_gpu.plan.beta import Beta
from diffcore_gpu.plan.fields import PLAN
from tests.ops.cpu_cases import MEAN, STD, Drawing, any_box, drawings, many_boxes, patched, random_batch, random_images
from tests.pairs import one_row_each, pairs_of_counts
from tests.plan.test_numpy_and_torch import same
from tests.ulp import ulps_apart

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.uint8]
NORM = affine_of(MEAN[:3], STD[:3], 3)


@pytest.fixture(params=[1, 2, 7])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


# The draw.


def drawn_by_kernel(
    index: torch.Tensor, pairs: Pairs, config: PlanConfig, *, height: int, width: int, seed: int, round: torch.Tensor
) -> tuple[MixPlan, bool]:
    """What the compiled draw writes, from arguments that are put at their places one by one, and whether it refuses."""
    plan, table = list(PLAN.views(PLAN.empty(len(index)), len(index))), config.lam_table()
    values = {
        **dict(zip(("ROW", "PIXEL", "LAM", "BOX", "INSIDE_REAL"), (field.data_ptr() for field in plan), strict=True)),
        "BATCH": len(index),
        "INDEX": index.data_ptr(),
        "ROUND": round.data_ptr(),
        "SEED": seed,
        "HEIGHT": height,
        "WIDTH": width,
        "PAIR_PTR": pairs.pair_ptr.data_ptr(),
        "NUM_SAMPLES": len(pairs.pair_ptr) - 1,
        "PAIR_ROW": pairs.pair_row.data_ptr(),
        "NUM_PAIRS": len(pairs.pair_row),
        "NUM_ROWS": pairs.num_rows,
        "LAM_TABLE": 0 if table is None else table.data_ptr(),
        **{name.upper(): value for name, value in config.parameters()._asdict().items()},
    }
    arguments = (ctypes.c_int64 * len(Argument))()
    for name, value in values.items():
        arguments[getattr(Argument, name)] = value
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(compiled(cpu_numba._MODULE, "draw").address)(ctypes.addressof(arguments))
    return MixPlan(*plan), bool(arguments[Argument.REFUSED])


@given(drawings)
@settings(max_examples=300)
def test_equals_the_plan_of_torch(drawing: Drawing) -> None:
    index, pairs, config, common = drawing
    plan, refused = drawn_by_kernel(index, pairs, config, **common)
    assert same(plan, draw_mix(index, pairs, config.parameters(), config.lam_table(), **common))
    num_samples = len(pairs.pair_ptr) - 1
    assert refused == any(sample < 0 or sample & SAMPLE_MASK >= num_samples for sample in index.tolist())


@pytest.mark.parametrize("height", [1, 224, 4096])
@pytest.mark.parametrize("placement", ["clipped", "inside"])
def test_many_samples_equal_the_plan_of_torch(height: int, placement: BoxPlacement) -> None:
    index, pairs, config, common = many_boxes(height, placement)
    plan, _ = drawn_by_kernel(index, pairs, config, **common)
    assert same(plan, draw_mix(index, pairs, config.parameters(), None, **common))


# The mix.


@given(
    batch=st.integers(0, 6),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40)),
    dtype=st.sampled_from(DTYPES),
    channels_last=st.booleans(),
    inplace=st.booleans(),
    lam=st.sampled_from([0.0, 1.0, 0.5, (0.0, 1.0)]),
    cuts=st.lists(st.integers(0, 9), max_size=3).map(sorted),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=300)
def test_equals_the_path_in_torch(
    batch: int, shape: tuple[int, int, int], dtype: torch.dtype, channels_last: bool, inplace: bool, lam: object,
    cuts: list[int], seed: int,
) -> None:  # fmt: skip
    images, rows, plan = random_batch(batch, shape, dtype, channels_last, lam, seed)
    shards = [rows[first:last] for first, last in zip([0, *cuts], [*cuts, 9], strict=True)]
    norm = affine_of(MEAN[: shape[0]], STD[: shape[0]], shape[0])
    expected, untouched = torch.empty_like(images), images.clone()
    mix_cpu(images, expected, shards, norm, plan)
    out = images if inplace else torch.empty_like(images)
    mix_compiled(images, out, shards, norm, plan)
    assert out.stride() == untouched.stride()
    # The torch path may fuse a product and a sum, so that one value in 2²⁹ or so is rounded to the other side.
    assert ulps_apart(out, expected) <= int(dtype == torch.float32)
    if not inplace:
        assert torch.equal(images, untouched)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("shape", [(3, 3, 250, 190), (40, 3, 61, 67), (2, 1, 3, 100_000)])
def test_any_number_of_threads_mixes_alike(
    dtype: torch.dtype, memory_format: torch.memory_format, inplace: bool, shape: tuple[int, int, int, int],
    threads: int, generator: torch.Generator,
) -> None:  # fmt: skip
    """Few images are cut into bands of lines, many are not."""
    batch, channels, height, width = shape
    images = random_images(shape, dtype, generator).to(memory_format=memory_format)
    rows = random_images(shape, torch.uint8, generator)
    plan = draw_plan(torch.arange(batch), one_row_each(batch), height=height, width=width, seed=3)
    expected = mix_reference(images, rows, plan, mean=MEAN[:channels], std=STD[:channels])
    out = images if inplace else torch.empty_like(images)
    mix_compiled(images, out, [rows], affine_of(MEAN[:channels], STD[:channels], channels), plan)
    assert ulps_apart(out, expected) <= int(dtype.is_floating_point)


@any_box
def test_boxes_of_given_plans_may_leave_the_image_or_be_empty(
    box: tuple[int, ...], inside_real: bool, dtype: torch.dtype, channels_last: bool, inplace: bool
) -> None:
    out, expected = patched(mix_compiled, box, inside_real, dtype, channels_last, inplace)
    assert ulps_apart(out, expected) <= int(dtype == torch.float32)


@given(
    real=st.integers(0, 255),
    generated=st.integers(0, 255),
    units=st.one_of(st.integers(0, 2**24), st.integers(0, 512).map(lambda half: half << 15)),
)
@settings(max_examples=500)
def test_bytes_are_rounded_to_nearest_with_ties_to_even(real: int, generated: int, units: int) -> None:
    images = torch.full((1, 1, 1, 1), real, dtype=torch.uint8)
    rows = torch.full((1, 1, 1, 1), generated, dtype=torch.uint8)
    plan = draw_plan(torch.arange(1), one_row_each(1), height=1, width=1, pixel_prob=1, lam=units / 2**24)
    out = torch.empty_like(images)
    mix_compiled(images, out, [rows], affine_of(None, None, 1), plan)
    exact, rest = divmod(units * real + (2**24 - units) * generated, 2**24)
    expected = exact + (rest > 2**23 or (rest == 2**23 and exact % 2 == 1))
    assert int(out) == expected


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("lam", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("dtype", DTYPES[:3])
def test_values_that_are_not_finite_stay_so_where_they_count(value: float, lam: float, dtype: torch.dtype) -> None:
    images = torch.full((1, 3, 8, 8), value, dtype=dtype)
    rows = torch.full((1, 3, 8, 8), 200, dtype=torch.uint8)
    plan = draw_plan(torch.arange(1), one_row_each(1), height=8, width=8, pixel_prob=1, lam=lam)
    out = torch.empty_like(images)
    mix_compiled(images, out, [rows], affine_of(None, None, 3), plan)
    torch.testing.assert_close(out, images if lam else (rows / 255).to(dtype), equal_nan=True)


# Both.


def compiled_mix(shards: list[torch.Tensor], counts: list[int], config: PlanConfig | None = None) -> CompiledMix:
    pairs, config = pairs_of_counts(torch.tensor(counts)), config or PlanConfig()
    num_rows = sum(len(shard) for shard in shards)
    return CompiledMix(
        shards[0].shape[1:], shards, Pairs(pairs.pair_ptr, pairs.pair_row, num_rows), torch.arange(num_rows) % 5,
        config.lam_table(), NORM, config.parameters(),
    )  # fmt: skip


def test_draws_mixes_and_advances(generator: torch.Generator) -> None:
    shape = (3, 30, 40)
    rows = random_images((8, *shape), torch.uint8, generator)
    images, index = torch.randn(4, *shape, generator=generator), torch.tensor([3, 9, 0, 9, 1, 9, 2, 9])[::2]
    config = PlanConfig(lam=Beta(0.7), p=0.9)
    mix = compiled_mix([rows[:3], rows[3:]], [2] * 4, config)
    pairs, counter, out = pairs_of_counts(torch.tensor([2] * 4)), torch.tensor(5), torch.empty_like(images)
    for round, advance in ((5, True), (6, False), (6, True), (7, False)):
        expected = draw_mix(
            index, Pairs(pairs.pair_ptr, pairs.pair_row, 8), config.parameters(), config.lam_table(), height=30,
            width=40, seed=11, round=torch.tensor(round),
        )  # fmt: skip
        plan = list(PLAN.views(PLAN.empty(len(index)), len(index)))
        mix(images, out, index, None, counter, 11, advance, plan)
        assert same(MixPlan(*plan), expected)
        counterparts = rows[expected.row.clamp(min=0)]
        assert ulps_apart(out, mix_reference(images, counterparts, expected, mean=MEAN[:3], std=STD[:3])) <= 1
        assert int(counter) == round + advance
        again = torch.empty_like(out)
        mix(images, again, index, None, torch.tensor(round), 11, False)  # into a plan that nobody sees
        assert torch.equal(again, out)


@pytest.mark.parametrize(
    ("index", "labels", "message"),
    [
        ([0, 4], None, "index 4 is outside the store"),
        ([-1, 0], None, "index -1 is outside the store"),
        ([1, 0], [1, 3], "sample 0 has label 3, but its counterpart, row 0 of the store, is of class 0"),
    ],
)
@pytest.mark.parametrize("kept", [False, True])
def test_what_is_refused_changes_nothing(
    index: list[int], labels: list[int] | None, message: str, kept: bool, generator: torch.Generator
) -> None:
    mix = compiled_mix([random_images((4, 3, 8, 8), torch.uint8, generator)], [1] * 4)
    images, counter = torch.randn(2, 3, 8, 8, generator=generator), torch.tensor(3)
    untouched, samples = images.clone(), torch.tensor(index)
    plan = list(PLAN.views(PLAN.empty(len(samples)), len(samples))) if kept else None
    with pytest.raises(ValueError, match=message):
        mix(images, images, samples, None if labels is None else torch.tensor(labels), counter, 0, True, plan)
    assert torch.equal(images, untouched)
    assert int(counter) == 3
    mix(images, images, torch.tensor([0, 3]), torch.tensor([0, 3]), counter, 0, True)  # labels of the right classes
    assert int(counter) == 4


def test_threads_mix_at_the_same_time(generator: torch.Generator) -> None:
    shape = (8, 3, 100, 120)
    images, rows = torch.randn(shape, generator=generator), random_images(shape, torch.uint8, generator)
    mix, index = compiled_mix([rows], [1] * 8), torch.arange(8)

    def mixed(seed: int) -> torch.Tensor:
        out = torch.empty_like(images)
        mix(images, out, index, None, torch.tensor(0), seed, False)
        return out

    with ThreadPoolExecutor(4) as pool:
        for seed, out in enumerate(pool.map(mixed, range(24))):
            assert torch.equal(out, mixed(seed))


def test_arguments_that_change_come_first() -> None:
    assert Argument.CHANNELS == cpu_numba._NUM_NEW
    assert Argument.REFUSED == cpu_numba._NUM_NEW - 1


# What there is to compile with.


@pytest.fixture
def _forgotten() -> Iterator[None]:
    """Forget what was found and compiled, before and after."""
    for cached in (numba_code.numba_module, numba_code.compiled):
        cached.cache_clear()
    yield
    for cached in (numba_code.numba_module, numba_code.compiled):
        cached.cache_clear()


def test_every_dtype_is_mixed_by_compiled_code() -> None:
    assert [cpu_backend(dtype) for dtype in DTYPES] == ["numba"] * 4


@pytest.mark.usefixtures("_forgotten")
def test_without_numba_torch_mixes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba_code.importlib.util, "find_spec", lambda name: None)
    assert cpu_backend(torch.float32) == "torch"


@pytest.mark.usefixtures("_forgotten")
def test_a_numba_that_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> Any:
        raise ImportError("Numba needs NumPy 2.5 or less")

    monkeypatch.setattr(numba_code.importlib, "import_module", refuse)
    with pytest.warns(UserWarning, match=r"numba cannot be imported, .* more slowly: Numba needs NumPy 2\.5"):
        assert cpu_backend(torch.float32) == "torch"


@pytest.mark.usefixtures("_forgotten")
def test_without_a_folder_to_keep_it_in_it_is_compiled_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    import numba

    def refuse(signature: str, cache: bool = False) -> Any:
        if cache:
            raise RuntimeError("cannot cache function 'draw': no locator available for file 'numba_kernels.py'")
        return compiler(signature)

    compiler = numba.cfunc
    monkeypatch.setattr(numba, "cfunc", refuse)
    index, pairs = torch.arange(3), one_row_each(3)
    common: Any = {"height": 9, "width": 8, "seed": 1, "round": torch.tensor(2)}
    plan, _ = drawn_by_kernel(index, Pairs(pairs.pair_ptr, pairs.pair_row, 3), PlanConfig(), **common)
    assert same(
        plan, draw_mix(index, Pairs(pairs.pair_ptr, pairs.pair_row, 3), PlanConfig().parameters(), None, **common)
    )


def test_a_plan_may_have_any_strides(generator: torch.Generator) -> None:
    images, rows = torch.randn(3, 3, 9, 7, generator=generator), random_images((3, 3, 9, 7), torch.uint8, generator)
    plan = draw_plan(torch.arange(3), one_row_each(3), height=9, width=7)
    strided = dataclasses.replace(plan, box=plan.box.t().contiguous().t(), lam=plan.lam.repeat_interleave(2)[::2])
    one, other = torch.empty_like(images), torch.empty_like(images)
    mix_compiled(images, one, [rows], NORM, plan)
    mix_compiled(images, other, [rows], NORM, strided)
    assert torch.equal(one, other)
