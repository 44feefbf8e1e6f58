"""The fused crop-and-mix op on the CPU: against the float64 reference, its registration, and what it refuses."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from diffcore_gpu.ops.crop_mix.op import crop_mix
from diffcore_gpu.ops.crop_mix.reference import crop_mix_reference
from diffcore_gpu.ops.resized_crop.op import resized_crop
from diffcore_gpu.ops.runtime.arguments import Source
from diffcore_gpu.ops.runtime.normalization import affine_of
from diffcore_gpu.plan import MixPlan, Pairs, PlanConfig, draw_plan
from diffcore_gpu.plan.crops import RandomResizedCropMirror, draw_crops
from tests.pairs import pairs_of_counts

B, C, H, W, ROWS = 8, 3, 30, 26, 5
SIZE = (16, 14)
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
GEOMETRY = RandomResizedCropMirror(SIZE)
COUNTS = torch.tensor([1, 0, 2, 3, 1, 1, 2, 1])


@pytest.fixture
def images(generator: torch.Generator) -> Tensor:
    return torch.randint(0, 256, (B, C, H, W), generator=generator, dtype=torch.uint8)


@pytest.fixture
def counterparts(generator: torch.Generator) -> Tensor:
    return torch.randint(0, 256, (ROWS, C, 22, 40), generator=generator, dtype=torch.uint8)


def plan_of(**settings: object) -> MixPlan:
    index = torch.arange(B)
    plan = draw_plan(index, pairs_of_counts(COUNTS, ROWS), height=SIZE[0], width=SIZE[1], **settings)
    real = draw_crops(index, GEOMETRY, height=H, width=W)
    generated = draw_crops(index, GEOMETRY, height=22, width=40, counterpart=True)
    return dataclasses.replace(
        plan, crop=real.crop, mirror=real.mirror, counterpart_crop=generated.crop, counterpart_mirror=generated.mirror
    )


SETTINGS = [
    {}, {"pixel_prob": 1.0}, {"pixel_prob": 0.0}, {"pixel_prob": 1.0, "lam": 0.0}, {"pixel_prob": 1.0, "lam": 1.0},
    {"pixel_prob": 0.0, "box_area": (1.0, 1.0), "box_placement": "inside"}, {"p": 0.5},
]  # fmt: skip


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_equals_the_reference(
    settings: dict[str, object], memory_format: torch.memory_format, images: Tensor, counterparts: Tensor
) -> None:
    plan = plan_of(**settings)
    result = crop_mix(
        images.to(memory_format=memory_format), counterparts, plan, SIZE, mean=MEAN, std=STD,
        memory_format=memory_format,
    )  # fmt: skip
    expected = crop_mix_reference(images, counterparts[plan.row.clamp(min=0)], plan, SIZE, mean=MEAN, std=STD)
    assert result.is_contiguous(memory_format=memory_format)
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=3e-5)
    as_bytes = crop_mix(images, counterparts, plan, SIZE, dtype=torch.uint8)
    expected = crop_mix_reference(images, counterparts[plan.row.clamp(min=0)], plan, SIZE) * 255
    assert (as_bytes.double() - expected).abs().max() <= 0.5 + 1e-3


def test_without_a_counterpart_it_is_a_resized_crop(images: Tensor, counterparts: Tensor) -> None:
    plan = plan_of(p=0.0)
    alone = resized_crop(images, plan.crop, SIZE, mirror=plan.mirror, mean=MEAN, std=STD)
    assert torch.equal(crop_mix(images, counterparts, plan, SIZE, mean=MEAN, std=STD), alone)


def test_rows_beyond_the_counterparts_count_as_none(images: Tensor, counterparts: Tensor) -> None:
    plan = plan_of()
    beyond = dataclasses.replace(plan, row=torch.full_like(plan.row, ROWS))
    none = dataclasses.replace(plan, row=torch.full_like(plan.row, -1))
    assert torch.equal(*(crop_mix(images, counterparts, rows, SIZE) for rows in (beyond, none)))


def test_an_empty_batch(images: Tensor, counterparts: Tensor) -> None:
    plan = MixPlan(*(value[:0] for value in plan_of().tensors()))
    assert crop_mix(images[:0], counterparts, plan, 9).shape == (0, C, 9, 9)


def test_operators_obey_torchs_rules(images: Tensor, counterparts: Tensor) -> None:
    pairs, config = pairs_of_counts(COUNTS, ROWS), PlanConfig()
    source = Source(
        [counterparts], Pairs(pairs.pair_ptr, pairs.pair_row, ROWS), torch.zeros(ROWS, dtype=torch.int64),
        config.lam_table(), affine_of(MEAN, STD, C), 7, config.parameters(), GEOMETRY.side_table(),
        GEOMETRY.parameters(),
    )  # fmt: skip
    output = ([*SIZE], torch.bfloat16, True)
    drawn = (
        images,
        *source.arguments(
            torch.arange(B), torch.zeros(B, dtype=torch.int64), torch.tensor(3), torch.zeros(4, dtype=torch.int32), True
        ),
        *(GEOMETRY.side_table(), list(GEOMETRY.parameters()), list(GEOMETRY.ratio), False),
        *output,
    )
    ops = torch.ops.diffcore
    for op, arguments in (
        (ops.crop_mix_store, drawn),
        (ops.crop_mix_store_plan, drawn),
        (ops.crop_mix_plan, (images, counterparts, affine_of(MEAN, STD, C), *plan_of().tensors(), *output)),
    ):
        result = torch.library.opcheck(op.default, arguments, test_utils=("test_schema", "test_faketensor"))
        assert set(result.values()) == {"SUCCESS"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(B, C, H, W)}, "images must be uint8"),
        ({"counterparts": torch.zeros(ROWS, C, H, W)}, r"counterparts must be uint8 \[N, 3, H, W\]"),
        ({"counterparts": torch.zeros(ROWS, 1, H, W, dtype=torch.uint8)}, r"counterparts must be uint8 \[N, 3, H, W\]"),
        (
            {"counterparts": torch.zeros(ROWS, C, H, W, dtype=torch.uint8, device="meta")},
            "counterparts lies on meta, but the images on cpu",
        ),
        ({"plan": dataclasses.replace(plan_of(), crop=None)}, "plan.crop is missing"),
        ({"plan": dataclasses.replace(plan_of(), mirror=torch.zeros(B))}, "plan.mirror must be"),
        ({"size": (0, 4)}, "size must be at least 1 × 1"),
        ({"dtype": torch.float64}, "dtype must be float32"),
        ({"mean": [0.1]}, "mean has 1 values, but the images have 3 channels"),
    ],
)
def test_bad_input_is_refused(change: dict[str, object], message: str, images: Tensor, counterparts: Tensor) -> None:
    arguments = {"images": images, "counterparts": counterparts, "plan": plan_of(), "size": SIZE, **change}
    with pytest.raises(ValueError, match=message):
        crop_mix(**arguments)
