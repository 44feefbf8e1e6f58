"""What every way to draw and to mix on the CPU is tested with, and what it is expected to give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from diffcore_gpu.ops.mix.reference import mix_reference
from diffcore_gpu.ops.runtime.normalization import affine_of
from diffcore_gpu.plan import BoxPlacement, MixPlan, Pairs, PlanConfig, RowChoice, draw_plan
from diffcore_gpu.plan.beta import Beta
from tests.pairs import pairs_of_counts

MEAN, STD = (0.485, 0.456, 0.406, 0.5), (0.229, 0.224, 0.225, 0.25)
INT64 = st.integers(-(2**63), 2**63 - 1)

_SHARE = st.floats(0, 1)
_INTERVAL = st.tuples(_SHARE, _SHARE).map(sorted).map(tuple)

MixOnCpu: TypeAlias = Callable[[Tensor, Tensor, Sequence[Tensor], Tensor, MixPlan], None]
Drawing: TypeAlias = tuple[Tensor, Pairs, PlanConfig, dict[str, Any]]
"""Index, pairs, settings, and size, seed and round by name."""


@st.composite
def _drawings(
    draw: st.DrawFn,
    counts: st.SearchStrategy[list[int]] = st.lists(st.integers(0, 4), min_size=1, max_size=12),
    config: st.SearchStrategy[PlanConfig] = st.builds(
        PlanConfig,
        p=_SHARE,
        pixel_prob=_SHARE,
        lam=st.one_of(_SHARE, _INTERVAL, st.sampled_from([Beta(0.2), Beta(1.0)])),
        box_area=st.one_of(_SHARE, _INTERVAL),
        box_placement=st.sampled_from(BoxPlacement.__args__),
        real_patch_prob=_SHARE,
        row_choice=st.sampled_from(RowChoice.__args__),
    ),
) -> Drawing:
    fake = pairs_of_counts(torch.tensor(draw(counts)), draw(st.one_of(st.none(), st.integers(1, 9))))
    pairs = Pairs(fake.pair_ptr, fake.pair_row, max(0, fake.num_rows - 1))  # the last row lies outside the store
    index = torch.tensor(draw(st.lists(st.one_of(st.integers(-3, 15), INT64), max_size=20)), dtype=torch.int64)
    common = {
        "height": draw(st.integers(1, 700)),
        "width": draw(st.integers(1, 700)),
        "seed": draw(st.integers(-(2**63), 2**64 - 1)),
        "round": torch.tensor(draw(st.integers(-1, 2**40))),
    }
    return index, pairs, draw(config), common


drawings = _drawings()


def many_boxes(height: int, placement: BoxPlacement) -> Drawing:
    """A hundred thousand samples: roots, products and roundings of all sizes."""
    fake = pairs_of_counts(torch.ones(100_000, dtype=torch.int64))
    pairs, config = Pairs(fake.pair_ptr, fake.pair_row, fake.num_rows), PlanConfig(box_placement=placement)
    return torch.arange(100_000), pairs, config, {"height": height, "width": 333, "seed": 5, "round": torch.tensor([7])}


def random_images(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Bytes of all values, or a normal distribution."""
    if dtype == torch.uint8:
        return torch.randint(0, 256, shape, generator=generator, dtype=dtype)
    return torch.randn(shape, generator=generator).to(dtype)


def random_batch(
    batch: int, shape: tuple[int, int, int], dtype: torch.dtype, channels_last: bool, lam: object, seed: int
) -> tuple[Tensor, Tensor, MixPlan]:
    """Images [B, C, H, W], at most 8 of them, the nine rows of a store, and a plan of both."""
    generator = torch.Generator().manual_seed(seed)
    images = random_images((batch, *shape), dtype, generator)
    if channels_last:
        images = images.to(memory_format=torch.channels_last)
    rows = random_images((9, *shape), torch.uint8, generator)
    pairs = pairs_of_counts(torch.randint(0, 3, (8,), generator=generator), 9)
    index = torch.randperm(8, generator=generator)[:batch]
    return images, rows, draw_plan(index, pairs, height=shape[1], width=shape[2], seed=seed, lam=lam)


any_box = given(
    box=st.tuples(*[st.integers(-30, 60)] * 4),
    inside_real=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.uint8]),
    channels_last=st.booleans(),
    inplace=st.booleans(),
)
"""Boxes that lie in an image of 20 × 30 pixels, leave it, or are empty; see `patched`."""


def patched(
    mix: MixOnCpu, box: tuple[int, ...], inside_real: bool, dtype: torch.dtype, channels_last: bool, inplace: bool
) -> tuple[Tensor, Tensor]:
    """An image mixed with such a box, and what the reference makes of it."""
    generator, shape = torch.Generator().manual_seed(0), (1, 3, 20, 30)
    images, rows = random_images(shape, dtype, generator), random_images(shape, torch.uint8, generator)
    images = images.to(memory_format=torch.channels_last) if channels_last else images
    plan = MixPlan(
        row=torch.zeros(1, dtype=torch.int64),
        pixel=torch.tensor([False]),
        lam=torch.zeros(1),
        box=torch.tensor([box], dtype=torch.int32),
        inside_real=torch.tensor([inside_real]),
    )
    expected = mix_reference(images, rows, plan)
    out = images if inplace else torch.empty_like(images)
    mix(images, out, [rows], affine_of(None, None, 3), plan)
    return out, expected
