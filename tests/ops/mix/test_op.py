"""The public op, its registration with torch, and what it refuses."""

from __future__ import annotations

import dataclasses
import os

import pytest
import torch
from torch import Tensor

from diffcore_gpu.ops.mix import op as mixing
from diffcore_gpu.ops.mix.op import mix
from diffcore_gpu.ops.mix.reference import mix_reference
from diffcore_gpu.ops.runtime.arguments import Source
from diffcore_gpu.ops.runtime.normalization import affine_of, affine_on
from diffcore_gpu.plan import MixPlan, Pairs, PlanConfig, draw_plan
from diffcore_gpu.plan.fields import neutral_plan
from tests.pairs import pairs_of_counts
from tests.ulp import ulps_apart

B, C, H, W, ROWS = 6, 3, 12, 10, 5
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


@pytest.fixture
def images(generator: torch.Generator) -> Tensor:
    return torch.randn(B, C, H, W, generator=generator)


@pytest.fixture
def counterparts(generator: torch.Generator) -> Tensor:
    return torch.randint(0, 256, (ROWS, C, H, W), generator=generator, dtype=torch.uint8)


@pytest.fixture
def plan() -> MixPlan:
    return draw_plan(torch.arange(B), pairs_of_counts(torch.tensor([1, 0, 2, 3, 1, 1]), ROWS), height=H, width=W)


def expected_of(images: Tensor, counterparts: Tensor, plan: MixPlan) -> Tensor:
    return mix_reference(images, counterparts[plan.row.clamp(min=0)], plan, mean=MEAN, std=STD)


def test_gathers_the_rows_of_the_plan(images: Tensor, counterparts: Tensor, plan: MixPlan) -> None:
    mixed = mix(images, counterparts, plan, mean=MEAN, std=STD)
    assert ulps_apart(mixed, expected_of(images, counterparts, plan)) <= 1


def test_any_strides(images: Tensor, counterparts: Tensor, plan: MixPlan) -> None:
    expected = expected_of(images, counterparts, plan)
    transposed = images.transpose(2, 3).contiguous().transpose(2, 3)
    assert ulps_apart(mix(transposed, counterparts, plan, mean=MEAN, std=STD), expected) <= 1
    every_other = images.repeat_interleave(2, dim=0)[::2]
    assert ulps_apart(mix(every_other, counterparts, plan, mean=MEAN, std=STD), expected) <= 1


def test_rows_beyond_the_counterparts_count_as_none(images: Tensor, counterparts: Tensor, plan: MixPlan) -> None:
    plan = dataclasses.replace(plan, row=torch.full_like(plan.row, ROWS))
    assert torch.equal(mix(images, counterparts, plan), images)


def source_of(shards: list[Tensor], row_label: Tensor) -> Source:
    pairs = pairs_of_counts(torch.tensor([1, 0, 2, 3, 1, 1]), ROWS)
    config = PlanConfig()
    return Source(
        shards, Pairs(pairs.pair_ptr, pairs.pair_row, ROWS), row_label, config.lam_table(), affine_of(MEAN, STD, C), 7,
        config.parameters(),
    )  # fmt: skip


def strided(value: Tensor) -> Tensor:
    """The same values, not contiguous."""
    return value.repeat_interleave(2, dim=-1)[..., ::2]


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="Triton's interpreter is off: a GPU runs it")
def test_kernels_may_be_given_any_strides(images: Tensor, counterparts: Tensor, plan: MixPlan) -> None:
    """Index, labels and plan of a GPU, by way of the interpreter."""
    index, labels, norm = torch.arange(B), torch.arange(B) % 2, affine_of(MEAN, STD, C)
    source = source_of([counterparts], torch.arange(ROWS) % 2)

    def results(index: Tensor, labels: Tensor, *fields: Tensor) -> list[Tensor]:
        status = torch.zeros(4, dtype=torch.int32)
        mixed = mixing._mix_store_cuda(images, *source.arguments(index, labels, torch.tensor(3), status, False))
        return [mixed, status, mixing._mix_plan_cuda(images, counterparts, norm, *fields)]

    fields = plan.tensors()
    expected = results(index, labels, *fields)
    found = results(strided(index), strided(labels), *map(strided, fields))
    assert all(map(torch.equal, expected, found))
    assert not torch.equal(expected[0], images)


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="Triton's interpreter is off: a GPU runs it")
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_store_may_lie_in_either_memory_format(
    memory_format: torch.memory_format, images: Tensor, counterparts: Tensor
) -> None:
    """What a kernel is given that draws: images and rows of the same format and of different ones."""
    images = images.contiguous(memory_format=memory_format)
    results = []
    for rows in (counterparts, counterparts.contiguous(memory_format=torch.channels_last)):
        source, status = source_of([rows], torch.zeros(ROWS, dtype=torch.int64)), torch.zeros(4, dtype=torch.int32)
        drawn = source.arguments(torch.arange(B), None, torch.tensor(3), status, False)
        results.append(mixing._mix_store_cuda(images, *drawn))
    assert torch.equal(*results)
    assert not torch.equal(results[0], images)


def test_an_empty_batch(counterparts: Tensor) -> None:
    plan = neutral_plan(torch.empty(0, dtype=torch.int64))
    assert mix(torch.empty(0, C, H, W), counterparts, plan).shape == (0, C, H, W)


def drawn_arguments(images: Tensor, counterparts: Tensor) -> tuple[object, ...]:
    source = source_of([counterparts[:2], counterparts[2:]], torch.zeros(ROWS, dtype=torch.int64))
    status = torch.zeros(4, dtype=torch.int32)
    return images, *source.arguments(torch.arange(B), None, torch.tensor(3), status, True)


@pytest.mark.parametrize("name", ["mix_store", "mix_store_plan", "mix_store_"])
def test_drawing_operators_obey_torchs_rules(name: str, images: Tensor, counterparts: Tensor) -> None:
    """Schema, fake kernels and tracing with fixed and with dynamic shapes, as torch itself checks them."""
    result = torch.library.opcheck(
        getattr(torch.ops.diffcore, name).default,
        drawn_arguments(images, counterparts),
        test_utils=("test_schema", "test_faketensor"),
    )
    assert set(result.values()) == {"SUCCESS"}


def test_constants_are_kept_on_the_device(images: Tensor, counterparts: Tensor, plan: MixPlan) -> None:
    """A copy of them would wait for a GPU in every call."""
    first = affine_on(MEAN, STD, C, images.device)
    assert affine_on(list(MEAN), torch.tensor(STD, dtype=torch.float64), C, images.device) is first
    assert affine_on(MEAN, None, C, images.device) is not first
    assert torch.equal(first, affine_of(MEAN, STD, C))
    assert torch.equal(affine_on(0.5, 0.2, C, images.device), affine_of([0.5] * C, [0.2] * C, C))


def test_the_planned_operator_obeys_torchs_rules(images: Tensor, counterparts: Tensor, plan: MixPlan) -> None:
    result = torch.library.opcheck(
        torch.ops.diffcore.mix_plan.default,
        (images, counterparts, affine_of(MEAN, STD, C), *plan.tensors()),
        test_utils=("test_schema", "test_faketensor", "test_aot_dispatch_dynamic"),
    )
    assert set(result.values()) == {"SUCCESS"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: {**a, "images": a["images"][0]}, r"batch \[B, C, H, W\]"),
        (lambda a: {**a, "images": a["images"].double()}, "float64"),
        (lambda a: {**a, "images": a["images"].requires_grad_()}, "not differentiable"),
        (lambda a: {**a, "counterparts": a["counterparts"].float()}, "counterparts must be uint8"),
        (lambda a: {**a, "counterparts": a["counterparts"][:, :, :-1]}, r"counterparts must be uint8 \[N, 3, 12, 10\]"),
        (lambda a: {**a, "plan": dataclasses.replace(a["plan"], lam=a["plan"].lam.double())}, "plan.lam must be"),
        (lambda a: {**a, "plan": dataclasses.replace(a["plan"], box=a["plan"].box[:-1])}, "plan.box must be"),
        (lambda a: {**a, "plan": a["plan"].to("meta")}, "plan.row lies on meta, but the images on cpu"),
        (lambda a: {**a, "counterparts": a["counterparts"].to("meta")}, "counterparts lies on meta"),
        (lambda a: {**a, "mean": [0.1, 0.2]}, "mean has 2 values, but the images have 3 channels"),
    ],
)
def test_bad_input_is_refused(
    change: object, message: str, images: Tensor, counterparts: Tensor, plan: MixPlan
) -> None:
    arguments = change({"images": images, "counterparts": counterparts, "plan": plan})
    with pytest.raises(ValueError, match=message):
        mix(**arguments)
