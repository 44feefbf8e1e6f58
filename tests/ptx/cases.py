"""Launches that reach what a compiled kernel can do: every flag, and for each set of flags every way through.

A case is one specialization of a kernel. Its launches differ in what is not compiled in: settings, λ of 0 and 1,
samples that are not mixed, unknown indices and rows, labels that do not fit, boxes of all sizes, crops that shrink or
grow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from diffcore_gpu.kernels import launch_crop_mix_plan, launch_mix_plan, launch_resized_crop
from diffcore_gpu.kernels.spec import SAMPLE_BITS, STREAM_BOX, STREAM_CHOICE
from diffcore_gpu.ops.runtime.normalization import affine_of
from diffcore_gpu.plan import Pairs, PlanConfig
from diffcore_gpu.plan.beta import Beta
from diffcore_gpu.plan.crops import RandomResizedCropMirror
from diffcore_gpu.plan.philox import philox4x32, split_words
from tests.kernels.test_crop_mix import Work
from tests.kernels.test_mix import MEAN, STD, Batch

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "u8": torch.uint8}
FORMATS = {"planar": torch.contiguous_format, "interleaved": torch.channels_last}
WAYS = (
    {},
    {"p": 0.0},
    {"pixel_prob": 1.0},
    {"pixel_prob": 0.0, "real_patch_prob": 0.0},
    {"pixel_prob": 0.0, "real_patch_prob": 1.0, "box_area": (0.0, 0.01)},
    {"pixel_prob": 0.0, "real_patch_prob": 0.5, "box_area": 1.0},
    {"pixel_prob": 0.0, "box_area": 0.0},
    {"pixel_prob": 1.0, "lam": 0.5},  # bytes lie at ties
)
ENDS = ({"pixel_prob": 1.0, "lam": 0.0}, {"pixel_prob": 1.0, "lam": 1.0})


@dataclass(frozen=True)
class Case:
    """One specialization of a kernel, and its launches."""

    name: str
    run: Callable[[], None]


def disturb(index: Tensor, pairs: Pairs, rows: int) -> None:
    """Let the second index be unknown, the third have unknown rows only, and the fourth be a sample's second draw."""
    counts = pairs.pair_ptr.diff()
    index[1] = -1 if int(index[0]) % 2 else len(counts)
    chosen = int(counts.nonzero()[-1])
    first, last = pairs.pair_ptr[chosen : chosen + 2].tolist()
    pairs.pair_row[first:last] = torch.tensor([rows, 2**33 + 1, -1])[: last - first]
    index[2] = chosen
    index[3] = int(counts.nonzero()[0]) + 2**SAMPLE_BITS


def _mix_store(
    dtype: str, layout: str, store: str, shape: tuple[int, int, int], *, inplace: bool, flags: bool, labels: bool,
    table: bool,
) -> None:  # fmt: skip
    fixed = {"box_placement": "inside", "row_choice": "best"} if flags else {}
    for k, way in enumerate((*WAYS, *(() if table else ENDS))):
        batch = Batch.make(10, shape, DTYPES[dtype], FORMATS[layout], seed=k)
        batch.store = batch.store.to(memory_format=FORMATS[store])
        disturb(batch.index, batch.pairs, len(batch.store))
        batch.round.fill_(2**32 - 1)
        seed = k + (k << 40)
        way = {**way, **({"lam": Beta(0.3)} if table else {})}
        config = PlanConfig(**{"p": 0.95, **fixed, **at_the_threshold(batch, seed, k), **way})
        if labels:
            batch.row_label = batch.row_label % 2 * (1 + 2**33)
            rows = batch.drawn(config, seed).row
            batch.labels = batch.row_label[rows.clamp(0, len(batch.store) - 1)]
            batch.labels[-1] ^= 2**33
        batch.run(config, seed=seed, inplace=inplace, advance=not labels)


def at_the_threshold(batch: Batch, seed: int, k: int) -> dict[str, float]:
    """Probabilities that are just what one of the samples draws: “below” and “not above” are then told apart."""
    index, name = batch.index[0], ("p", "pixel_prob", "real_patch_prob")[k % 3]
    stream, word = {"p": (STREAM_CHOICE, 0), "pixel_prob": (STREAM_CHOICE, 1), "real_patch_prob": (STREAM_BOX, 3)}[name]
    counter = (*split_words(index), batch.round & 0xFFFFFFFF, torch.tensor(stream))
    return {name: int(philox4x32(counter, seed)[word] >> 8) / 2**24}


def _mix_plan(dtype: str, layout: str, shape: tuple[int, int, int]) -> None:
    for k, way in enumerate((*WAYS, *ENDS)):
        batch = Batch.make(5, shape, DTYPES[dtype], FORMATS[layout], seed=k)
        plan = list(batch.drawn(PlanConfig(**{"p": 0.95, **way}), seed=k).tensors())
        plan[0][0] = len(batch.store)
        plan[3][k % 5] = torch.tensor([9, 20, 4, 50] if k % 2 else [4, 50, 20, 9])  # empty
        launch_mix_plan(batch.images, torch.empty_like(batch.images), batch.store, batch.norm, plan)


def _works(channels: int, layout: str, same: bool) -> Iterator[tuple[int, Work, dict[str, object]]]:
    for k, (scale, way) in enumerate(product(((0.05, 0.2), (0.6, 1.0)), (*WAYS, *ENDS))):
        if k % 5 == 4:  # only crops as large as the image fit
            scale = (1.0, 1.0)
        geometry = RandomResizedCropMirror((20, 24), scale=scale, ratio=(0.6, 1.6))
        stored = (31, 40) if same else (29, 33)
        work = Work.make(channels, (31, 40), stored, geometry, FORMATS[layout], same, batch=4, seed=k)
        disturb(work.index, work.pairs, len(work.store))
        yield k, work, way


def _crop_mix_store(dtype: str, layout: str, source: str, *, channels: int, same: bool, labels: bool) -> None:
    for k, work, way in _works(channels, source, same):
        given = torch.randint(0, 2, (4,), generator=torch.Generator().manual_seed(k)) if labels else None
        work.run(PlanConfig(**{"p": 0.95, **way}), DTYPES[dtype], FORMATS[layout], given)


def _crop_mix_plan(dtype: str, layout: str, source: str, *, channels: int) -> None:
    for k, work, way in _works(channels, source, same=False):
        plan = [value.clone() for value in work.drawn(PlanConfig(**{"p": 0.95, **way})).tensors()]
        plan[5][k % 4] = torch.tensor([-5, 50, 99, 60])
        launch_crop_mix_plan(work.images, work.empty(DTYPES[dtype], FORMATS[layout]), work.store, work.norm(), plan)


def _resized_crop(dtype: str, layout: str, source: str, *, channels: int) -> None:
    boxes = ([0, 0, 61, 80], [3, 4, 9, 12], [60, 79, 61, 80], [-5, 90, 99, 95], [9, 2, -4, -7], [2, 0, 45, 80])
    images = torch.randint(0, 256, (5, channels, 61, 80), generator=torch.Generator().manual_seed(0))
    norm = affine_of(MEAN[:channels], STD[:channels], channels)
    for box in boxes:
        crop = torch.tensor([box, *boxes[:4]], dtype=torch.int32)
        out = torch.empty(5, channels, 20, 24, dtype=DTYPES[dtype]).to(memory_format=FORMATS[layout])
        mirror: Tensor = torch.arange(5) % 2 == 0
        launch_resized_crop(images.to(torch.uint8).to(memory_format=FORMATS[source]), out, crop, mirror, norm)


def cases() -> Iterator[Case]:
    """All cases."""
    shape = (3, 40, 60)
    for dtype, layout in product(DTYPES, FORMATS):
        for store in FORMATS:
            name = f"mix_store {dtype} {layout} store={store}"
            yield Case(
                name,
                lambda d=dtype, f=layout, s=store: _mix_store(
                    d, f, s, shape, inplace=False, flags=f != s, labels=False, table=False
                ),
            )
        name = f"mix_store {dtype} {layout} in place"
        yield Case(
            name,
            lambda d=dtype, f=layout: _mix_store(
                d, f, f, (3, 43, 47), inplace=True, flags=False, labels=True, table=d == "fp32"
            ),
        )
        yield Case(f"mix_plan {dtype} {layout}", lambda d=dtype, f=layout: _mix_plan(d, f, shape))
    for dtype, layout in product(("bf16", "u8"), FORMATS):
        channels, same = (5, True) if (dtype, layout) == ("u8", "planar") else (3, dtype == "u8")
        yield Case(
            f"crop_mix_store {dtype} {layout}",
            lambda d=dtype, f=layout, c=channels, s=same: _crop_mix_store(
                d, f, "interleaved" if c == 3 else "planar", channels=c, same=s, labels=s
            ),
        )
        yield Case(
            f"crop_mix_plan {dtype} {layout}",
            lambda d=dtype, f=layout: _crop_mix_plan(d, f, "planar", channels=3),
        )
        yield Case(
            f"resized_crop {dtype} {layout}",
            lambda d=dtype, f=layout: _resized_crop(d, f, "planar" if d == "u8" else "interleaved", channels=3),
        )
