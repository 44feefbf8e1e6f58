"""Every implementation of the draw gives what was recorded, bit for bit.

A test that fails here says that the plans of runs which were begun with an earlier version can no longer be repeated.
Where that is wanted, it is a new `STREAM_VERSION`; where it is not, a constant or an operation was changed by mistake.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from diffcore_gpu.kernels.spec import GRID_BITS, STREAM_VERSION
from diffcore_gpu.ops.crop_mix import cpu_numba as crop_numba
from diffcore_gpu.ops.mix import cpu_numba
from diffcore_gpu.ops.runtime.arguments import Source
from diffcore_gpu.ops.runtime.normalization import affine_of
from diffcore_gpu.ops.runtime.numba_code import compiled, numba_module
from diffcore_gpu.plan import MixPlan, PlanConfig, draw_mix
from diffcore_gpu.plan.crops import RandomResizedCropMirror, central_crop
from diffcore_gpu.plan.draw import draw_crop
from diffcore_gpu.plan.fields import FIELDS, PLAN, PLAN_WITH_CROPS, fields_of
from tests.golden.cases import CROPS, PLANS, CropCase, PlanCase, crop_index, pairs, plan_index
from tests.golden.record import path_of
from tests.kernels.device import DEVICE

RECORDED = {(entry["kind"], entry["case"]): entry for entry in json.loads(path_of().read_text())}

IN_A_KERNEL = slice(None) if DEVICE == "cuda" else slice(None, None, 4)
"""Triton's interpreter takes tens of milliseconds for the crops of a sample, and so draws those of every fourth."""

DrawPlan = Callable[[PlanCase], Sequence[Tensor]]
DrawCrops = Callable[[CropCase], Sequence[Tensor]]


def recorded(kind: str, case: str) -> dict[str, Tensor]:
    """The fields of a recorded draw, in the dtypes of a plan."""
    found = {}
    for field in FIELDS:
        if field.name in RECORDED[kind, case]:
            value = torch.tensor(RECORDED[kind, case][field.name])
            units = 2.0**-GRID_BITS if field.name == "lam" else 1
            found[field.name] = (value * units).to(field.dtype)
    return found


def plan_in(numpy: bool) -> DrawPlan:
    def draw(case: PlanCase) -> Sequence[Tensor]:
        config = PlanConfig(**case.settings)
        return draw_mix(
            plan_index(), pairs(), config.parameters(), config.lam_table(), height=case.size[0], width=case.size[1],
            seed=case.seed, round=torch.tensor(case.round), numpy=numpy,
        ).tensors()  # fmt: skip

    return draw


def crops_in(numpy: bool) -> DrawCrops:
    def draw(case: CropCase) -> Sequence[Tensor]:
        config = RandomResizedCropMirror((224, 224), **case.settings)
        *area, mirror_below = config.parameters()
        drawn = []
        for (height, width), counterpart in ((case.image, False), (case.counterpart, True)):
            drawn += draw_crop(
                crop_index(), tuple(area), mirror_below, central_crop(height, width, config.ratio),
                config.side_table(), height=height, width=width, seed=case.seed, round=torch.tensor(case.round),
                counterpart=counterpart, numpy=numpy,
            )  # fmt: skip
        return drawn

    return draw


def plan_in_compiled_code(case: PlanCase) -> Sequence[Tensor]:
    config, index = PlanConfig(**case.settings), plan_index()
    round, table, held = torch.tensor(case.round), config.lam_table(), pairs()
    plan = list(PLAN.views(PLAN.empty(len(index)), len(index)))
    values = {
        **{field.name: tensor.data_ptr() for field, tensor in zip(PLAN.fields, plan, strict=True)},
        "batch": len(index), "index": index.data_ptr(), "round": round.data_ptr(),
        "seed": ctypes.c_int64(case.seed).value, "height": case.size[0], "width": case.size[1],
        "pair_ptr": held.pair_ptr.data_ptr(), "num_samples": len(held.pair_ptr) - 1,
        "pair_row": held.pair_row.data_ptr(), "num_pairs": len(held.pair_row), "num_rows": held.num_rows,
        "lam_table": 0 if table is None else table.data_ptr(), **config.parameters()._asdict(),
    }  # fmt: skip
    argument = numba_module(cpu_numba._MODULE).Argument
    arguments = (ctypes.c_int64 * len(argument))()
    for name, value in values.items():
        arguments[getattr(argument, name.upper())] = value
    draw = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(compiled(cpu_numba._MODULE, "draw").address)
    draw(ctypes.addressof(arguments))
    return plan


def crops_in_compiled_code(case: CropCase) -> Sequence[Tensor]:
    geometry, index = RandomResizedCropMirror((224, 224), **case.settings), crop_index()
    round, table = torch.tensor(case.round), geometry.side_table()
    crops = list(PLAN_WITH_CROPS.views(PLAN_WITH_CROPS.empty(len(index)), len(index)))[len(PLAN.fields) :]
    values = [
        len(index), index.data_ptr(), round.data_ptr(), ctypes.c_int64(case.seed).value, *geometry.parameters(),
        table.data_ptr(), 0, *(field.data_ptr() for field in crops),
        *case.image, *central_crop(*case.image, geometry.ratio),
        *case.counterpart, *central_crop(*case.counterpart, geometry.ratio),
    ]  # fmt: skip
    arguments = (ctypes.c_int64 * len(values))(*values)
    draw = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(compiled(crop_numba._DRAW, "draw_crops").address)
    draw(ctypes.addressof(arguments))
    return crops


def source_of(case: PlanCase | CropCase, config: PlanConfig, *crops: Any) -> Source:
    held, table = pairs(), config.lam_table()
    held = held._replace(pair_ptr=held.pair_ptr.to(DEVICE), pair_row=held.pair_row.to(DEVICE))
    labels = torch.zeros(held.num_rows, dtype=torch.int64, device=DEVICE)
    norm = affine_of(None, None, 3).to(DEVICE)
    table = None if table is None else table.to(DEVICE)
    return Source([], held, labels, table, norm, case.seed, config.parameters(), *crops)


def plan_in_a_kernel(case: PlanCase) -> Sequence[Tensor]:
    from tests.golden.kernels import plan_kernel

    config, index = PlanConfig(**case.settings), plan_index().to(DEVICE)
    source, round = source_of(case, config), torch.tensor(case.round, device=DEVICE)
    packed = PLAN.empty(len(index), device=DEVICE)
    plan_kernel[(len(index),)](
        index, round, source.constants, packed, H=case.size[0], W=case.size[1], LAM_TABLE=source.lam_table is not None,
        BOX_INSIDE=bool(source.parameters.box_inside), BEST_ROW=bool(source.parameters.best_row), PLACES=PLAN.places,
    )  # fmt: skip
    return [field.cpu() for field in PLAN.views(packed, len(index))]


def crops_in_a_kernel(case: CropCase) -> Sequence[Tensor]:
    from tests.golden.kernels import crop_kernel

    geometry = RandomResizedCropMirror((224, 224), **case.settings)
    index, round = crop_index()[IN_A_KERNEL].contiguous().to(DEVICE), torch.tensor(case.round, device=DEVICE)
    source = source_of(case, PlanConfig(), geometry.side_table(DEVICE), geometry.parameters())
    packed = PLAN_WITH_CROPS.empty(len(index), device=DEVICE)
    crop_kernel[(len(index),)](
        index, round, source.constants, packed, H=case.image[0], W=case.image[1], OTHER_H=case.counterpart[0],
        OTHER_W=case.counterpart[1], CENTRAL=central_crop(*case.image, geometry.ratio),
        OTHER_CENTRAL=central_crop(*case.counterpart, geometry.ratio), PLACES=PLAN_WITH_CROPS.places,
    )  # fmt: skip
    return [field.cpu() for field in PLAN_WITH_CROPS.views(packed, len(index))][len(PLAN.fields) :]


needs_numba = pytest.mark.skipif(numba_module(cpu_numba._MODULE) is None, reason="numba is not installed")


@pytest.fixture(autouse=True)
def _triton(request: pytest.FixtureRequest) -> None:
    if "kernel" in request.node.name:
        pytest.importorskip("triton", reason="Triton is not available on this platform")


@pytest.mark.parametrize("case", PLANS)
@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(plan_in(numpy=True), id="numpy"),
        pytest.param(plan_in(numpy=False), id="torch"),
        pytest.param(plan_in_compiled_code, id="numba", marks=needs_numba),
        pytest.param(plan_in_a_kernel, id="kernel"),
    ],
)
def test_plans_are_those_that_were_recorded(draw: DrawPlan, case: str) -> None:
    expected = recorded("plan", case)
    assert list(expected) == [field.name for field in fields_of(crops=False)]
    for (name, value), found in zip(expected.items(), draw(PLANS[case]), strict=True):
        assert found.dtype == value.dtype
        assert torch.equal(found, value), name


@pytest.mark.parametrize("case", CROPS)
@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(crops_in(numpy=True), id="numpy"),
        pytest.param(crops_in(numpy=False), id="torch"),
        pytest.param(crops_in_compiled_code, id="numba", marks=needs_numba),
        pytest.param(crops_in_a_kernel, id="kernel"),
    ],
)
def test_crops_are_those_that_were_recorded(draw: DrawCrops, case: str) -> None:
    expected = recorded("crops", case)
    assert list(expected) == [field.name for field in FIELDS if field.of_crops]
    for (name, value), found in zip(expected.items(), draw(CROPS[case]), strict=True):
        assert found.dtype == value.dtype
        assert torch.equal(found, value[IN_A_KERNEL] if draw is crops_in_a_kernel else value), name


def test_every_case_is_recorded_in_the_file_of_this_version() -> None:
    assert set(RECORDED) == {("plan", case) for case in PLANS} | {("crops", case) for case in CROPS}
    assert path_of(STREAM_VERSION).exists()


def test_a_plan_that_was_recorded_is_whole() -> None:
    """What is drawn of every sample is a plan."""
    assert MixPlan(**recorded("plan", "default"), **recorded("crops", "default")).tensors()
