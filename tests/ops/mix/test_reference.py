"""The reference against eqs. 6–8 written out pixel by pixel in exact fractions."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffcore_gpu.ops.mix.reference import mix_reference, normalize_counterparts, real_weight
from diffcore_gpu.plan import MixPlan


def plan_of(
    row: list[int], pixel: list[bool], lam: list[float], box: list[list[int]], inside_real: list[bool]
) -> MixPlan:
    return MixPlan(
        torch.tensor(row),
        torch.tensor(pixel),
        torch.tensor(lam, dtype=torch.float32),
        torch.tensor(box, dtype=torch.int32),
        torch.tensor(inside_real),
    )


def mixed_value(plan: MixPlan, b: int, y: int, x: int, real: float, generated: float) -> Fraction:
    """Eqs. 6–8 for one value."""
    real_, generated_ = Fraction(real), Fraction(generated)
    if plan.row[b] < 0:
        return real_
    if plan.pixel[b]:
        lam = Fraction(plan.lam[b].item())
        return lam * real_ + (1 - lam) * generated_
    top, left, bottom, right = plan.box[b].tolist()
    inside = top <= y < bottom and left <= x < right
    return real_ if inside == bool(plan.inside_real[b]) else generated_


@given(data=st.data())
@settings(max_examples=40)
def test_equals_the_equations(data: st.DataObject) -> None:
    batch, height, width = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)))
    edges = st.tuples(st.integers(0, height), st.integers(0, width), st.integers(0, height), st.integers(0, width))

    def each(strategy: st.SearchStrategy) -> list:
        return data.draw(st.lists(strategy, min_size=batch, max_size=batch))

    plan = plan_of(
        each(st.integers(-1, 3)),
        each(st.booleans()),
        each(st.integers(0, 2**24).map(lambda units: units / 2**24)),
        each(edges.map(list)),
        each(st.booleans()),
    )
    seed = data.draw(st.integers(0, 999))
    generator = torch.Generator().manual_seed(seed)
    shape = batch, 2, height, width
    floats = torch.randn(shape, generator=generator, dtype=torch.float32)
    others = torch.randn(shape, generator=generator, dtype=torch.float32)
    integers, other_integers = (torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8) for _ in range(2))
    mixed, mixed_integers = mix_reference(floats, others, plan), mix_reference(integers, other_integers, plan)
    for b, c, y, x in torch.cartesian_prod(*map(torch.arange, shape)).tolist():
        exact = mixed_value(plan, b, y, x, floats[b, c, y, x].item(), others[b, c, y, x].item())
        assert abs(Fraction(mixed[b, c, y, x].item()) - exact) <= abs(exact) * Fraction(1, 2**23) + Fraction(1, 2**50)
        exact = mixed_value(plan, b, y, x, integers[b, c, y, x].item(), other_integers[b, c, y, x].item())
        assert mixed_integers[b, c, y, x].item() == round(exact)  # Python rounds ties to even too


def test_normalization_is_that_of_torchvision() -> None:
    normalize = pytest.importorskip(
        "torchvision.transforms.v2.functional", reason="torchvision is not installed"
    ).normalize
    counterparts = torch.arange(2 * 3 * 4 * 4, dtype=torch.uint8).reshape(2, 3, 4, 4)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    theirs = normalize(counterparts.to(torch.float64) / 255, list(mean), list(std))
    torch.testing.assert_close(normalize_counterparts(counterparts, mean, std), theirs, rtol=0, atol=1e-14)


def test_weight_is_the_mask_of_eq_7() -> None:
    plan = plan_of([0, 0], [False, False], [0.5, 0.5], [[1, 0, 3, 2]] * 2, [True, False])
    weight = real_weight(plan, 3, 3)
    mask = torch.tensor([[0, 0, 0], [1, 1, 0], [1, 1, 0]], dtype=torch.float64)
    assert torch.equal(weight[0, 0], mask)
    assert torch.equal(weight[1, 0], 1 - mask)


def test_an_image_that_shows_alone_is_exact_even_beside_infinities() -> None:
    plan = plan_of([0], [True], [0.0], [[0, 0, 1, 1]], [True])
    images = torch.full((1, 1, 1, 1), float("inf"))
    assert mix_reference(images, torch.ones(1, 1, 1, 1), plan).item() == 1.0


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_keeps_dtype_and_memory_format(memory_format: torch.memory_format, generator: torch.Generator) -> None:
    plan = plan_of([0, -1], [True, True], [0.5, 0.5], [[0, 0, 1, 1]] * 2, [True] * 2)
    images = torch.randn(2, 3, 4, 5, generator=generator).to(torch.bfloat16, memory_format=memory_format)
    counterparts: Tensor = torch.zeros(2, 3, 4, 5, dtype=torch.uint8)
    mixed = mix_reference(images, counterparts, plan)
    assert (mixed.dtype, mixed.stride()) == (images.dtype, images.stride())
    assert torch.equal(mixed[1], images[1])
