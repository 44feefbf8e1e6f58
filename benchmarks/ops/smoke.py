"""Whether the mix is right on this device: every dtype and memory format against the float64 reference, in seconds.

Of each: the plan beside the one that plain torch draws on the CPU (bit for bit), the mix out of place and in place
(within a unit in the last place, bytes exactly) and the crop with the mix (within float32's error). A figure that a
benchmark prints is worth nothing where this fails, so it comes first. With --processes several rows are compiled and
checked at the same time.

    diffcore bench smoke --device cuda --processes 8
    diffcore bench smoke --device cpu --size 32 --batch 4
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import fields
from itertools import product
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import typer
from torch import Tensor

from diffcore_gpu import (
    CounterpartStore,
    DiffCoreMix,
    MixPlan,
    RandomResizedCropMirror,
    crop_mix_reference,
    draw_plan,
    mix_reference,
)
from diffcore_gpu.benchmarks.harness import options
from diffcore_gpu.benchmarks.harness.command import output_of
from diffcore_gpu.benchmarks.harness.measure import table
from diffcore_gpu.benchmarks.harness.processes import shared
from diffcore_gpu.benchmarks.harness.random_data import DTYPES, FORMATS, MEAN, STD, random_images, random_store
from diffcore_gpu.benchmarks.harness.runs import Run
from diffcore_gpu.errors import BenchmarkError

ROWS = 64
ALL_DTYPES, ALL_FORMATS = list(DTYPES), list(FORMATS)
CROP_TOLERANCE = {"float32": 5e-5, "float16": 4e-3, "bfloat16": 3e-2, "uint8": 0.501}
"""Of a crop, in the units of its output: a resized value is rounded from float32, and a byte near a tie either way."""
CANCELLED = {4: 2.0**-40, 2: 2.0**-22}
"""What may remain of the larger operand where nearly everything cancels, by the bytes of a value.

Images of 16 bits are mixed in float32, whose roundings of the operands remain.
"""


class Part(NamedTuple):
    """One row."""

    dtype: str
    memory_format: str
    size: int
    batch: int
    device: str


def last_places(found: Tensor, expected: Tensor, scale: Tensor) -> float:
    """The largest difference in units in the last place of what is expected; for bytes in values.

    Args:
        found: of the dtype that is checked.
        expected: the reference, of the same dtype.
        scale: the larger of the operands' magnitudes at each value; of a difference, so much of it is free as
            `CANCELLED` says for the dtype.
    """
    difference = (found.double() - expected.double()).abs()
    if not found.is_floating_point():
        return float(difference.max())
    finfo = torch.finfo(found.dtype)
    exponent = torch.frexp(expected.double().abs().clamp(min=finfo.tiny))[1] - 1
    unit = finfo.eps * torch.exp2(exponent.double())
    return float(
        ((difference - CANCELLED[found.element_size()] * scale).clamp(min=0) / unit).nan_to_num(torch.inf).max()
    )


def same_plan(one: MixPlan, other: MixPlan) -> bool:
    """Whether the fields that `other` has are the same, bit for bit."""
    pairs = ((getattr(one, field.name), getattr(other, field.name)) for field in fields(MixPlan))
    return all(torch.equal(a.cpu(), b.cpu()) for a, b in pairs if b is not None)


def mix_errors(part: Part, store: CounterpartStore) -> dict[str, float | bool]:
    """The plan, the mix, and the mix in place of one row."""
    device = torch.device(part.device)
    images = random_images(part.batch, part.size, part.dtype, part.memory_format, device)
    index = torch.arange(part.batch, device=device) * 3 % ROWS
    mix, inplace = (DiffCoreMix(store, mean=MEAN, std=STD, inplace=inplace).to(device) for inplace in (False, True))
    mixed, plan = mix(images, index, return_plan=True)
    expected_plan = draw_plan(index.cpu(), store, height=part.size, width=part.size)
    counterparts = store.images(expected_plan.row.clamp(min=0).tolist())
    on_host = images.cpu()
    expected = mix_reference(on_host, counterparts, expected_plan, mean=MEAN, std=STD)
    scale = torch.maximum(on_host.double().abs(), torch.tensor(3.0, dtype=torch.float64))  # counterparts reach 2.64
    right_strides = mixed.stride() == images.stride()
    written = inplace(images, index)
    return {
        "plan": same_plan(plan, expected_plan),
        "strides": right_strides and written.data_ptr() == images.data_ptr(),
        "mix_last_places": last_places(mixed.cpu(), expected, scale),
        "in_place_last_places": last_places(written.cpu(), expected, scale),
    }


def crop_error(part: Part, store: CounterpartStore) -> float:
    """The largest error of the crop with the mix; the reference takes the plan that the device wrote."""
    device = torch.device(part.device)
    raw = random_images(part.batch, part.size, "uint8", "contiguous", device)
    index = torch.arange(part.batch, device=device) * 5 % ROWS
    shape = part.size - 7, part.size - 4
    mix = DiffCoreMix(
        store, geometry=RandomResizedCropMirror(shape), mean=MEAN, std=STD, dtype=DTYPES[part.dtype],
        memory_format=FORMATS[part.memory_format],
    ).to(device)  # fmt: skip
    mixed, plan = mix(raw, index, return_plan=True)
    plan = plan.to("cpu")
    counterparts = store.images(plan.row.clamp(min=0).tolist())
    norm = {} if part.dtype == "uint8" else {"mean": MEAN, "std": STD}
    expected = crop_mix_reference(raw.cpu(), counterparts, plan, shape, **norm)
    if part.dtype == "uint8":
        expected = expected * 255
    return float((mixed.cpu().double() - expected.double()).abs().nan_to_num(torch.inf).max())


def check(part: Part) -> dict[str, Any]:
    """One row, and whether it is right."""
    with tempfile.TemporaryDirectory() as folder:
        store = random_store(Path(folder) / "store", part.size, rows=ROWS)
        errors = mix_errors(part, store)
        crop = crop_error(part, store)
    within = 0 if part.dtype == "uint8" else 1
    right = bool(
        errors["plan"]
        and errors["strides"]
        and max(errors["mix_last_places"], errors["in_place_last_places"]) <= within
        and crop <= CROP_TOLERANCE[part.dtype]
    )
    return {**errors, "crop_error": crop, "right": right}


def report(rows: Sequence[dict[str, Any]]) -> str:
    """A line for each dtype and format."""
    lines = [
        (
            f"{row['dtype']} {row['memory_format']}",
            "same" if row["plan"] else "DIFFERS",
            "right" if row["strides"] else "WRONG",
            f"{row['mix_last_places']:.3g}",
            f"{row['in_place_last_places']:.3g}",
            f"{row['crop_error']:.2g}",
            "yes" if row["right"] else "NO",
        )
        for row in rows
    ]
    return table(("", "plan", "strides", "mix, last places", "in place", "crop, error", "right"), lines)


def main(
    context: typer.Context,
    device: options.Device = "cuda",
    batch: options.Batch = 16,
    size: options.Size = 70,
    dtype: options.Dtypes = ALL_DTYPES,
    memory_format: options.Formats = ALL_FORMATS,
    processes: Annotated[int, options.number("--processes", "That share the rows.")] = 1,
    json: options.ResumableJson = None,
    budget_minutes: options.BudgetMinutes = None,
) -> None:
    """Check, print, and write JSON if asked.

    Raises:
        BenchmarkError: something is not right.
    """
    where = options.device_of(device)
    setting = {"size": size, "batch": batch, "dtype": dtype, "format": memory_format}
    run = Run("smoke", output_of(context, json, budget_minutes), where, setting, timed=False)
    wanted = list(product(dtype, memory_format))
    found = dict(
        zip(wanted, shared(check, [Part(*which, size, batch, where.type) for which in wanted], processes), strict=True)
    )
    rows = run.do(
        [{"dtype": dtype, "memory_format": memory_format} for dtype, memory_format in wanted],
        lambda part: found[part["dtype"], part["memory_format"]],
    )["results"]
    with run.reading():
        text = report(rows)
        wrong = [f"{row['dtype']} {row['memory_format']}" for row in rows if not row["right"]]
    print(text)
    if wrong:
        raise BenchmarkError(f"the mix is not what the reference says for {', '.join(wrong)}.")
