"""From raw bytes to a training batch: this library's fused launch against torchvision v2, alone and in a training step.

The vanilla step preprocesses the batch on the same device with torchvision v2: RandomResizedCrop, horizontal flip,
to float, normalize, on the whole batch at once, which draws one crop for all its images; it mixes nothing. Ours draws a
crop for each image and mixes in the counterparts as well. Also measured: torchvision with a crop for each image, one
image after another as a dataset's transform does it, the way to get the same augmentation from it. For uint8 output
torchvision neither converts nor normalizes, and no training step follows.

    diffcore bench geometry --device cuda --model resnet50 --json benchmarks/results/DEVICE/geometry.json
    diffcore bench geometry --device cpu --model resnet18 --batch 8 --raw 64 --size 56 --repeats 5
    diffcore bench geometry --device cpu --alone --dtype float32 uint8 --batch 16 64 128 --format contiguous
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn

from diffcore_gpu import CounterpartStore, DiffCoreMix, RandomResizedCropMirror
from diffcore_gpu.benchmarks.harness import options
from diffcore_gpu.benchmarks.harness.command import output_of
from diffcore_gpu.benchmarks.harness.measure import table, within_noise
from diffcore_gpu.benchmarks.harness.random_data import DTYPES, FORMATS, MEAN, STD, random_images
from diffcore_gpu.benchmarks.harness.runs import Run
from diffcore_gpu.benchmarks.ops.registry import GEOMETRY
from diffcore_gpu.benchmarks.ops.runner import Case, run_op
from diffcore_gpu.benchmarks.training.models import check_model, make_model, paper_sgd

VANILLA = "torchvision, one crop a batch"
PER_SAMPLE = "torchvision, a crop an image"
OURS = "diffcore, crop and mix"
OURS_SAME = "diffcore, same crop for both"


def preprocessors(
    store: CounterpartStore, size: int, dtype: str, memory_format: str, device: torch.device
) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Functions of (raw uint8 images, index) that return a batch to train on, all of one size, dtype and format."""
    from torchvision.transforms import v2

    steps = [v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip()]
    if dtype != "uint8":
        steps += [v2.ToDtype(DTYPES[dtype], scale=True), v2.Normalize(MEAN, STD)]
    chain = v2.Compose(steps)
    wanted = FORMATS[memory_format]
    ours, same = (
        DiffCoreMix(
            store, geometry=RandomResizedCropMirror((size, size)), counterpart_crop=crop, mean=MEAN, std=STD,
            dtype=DTYPES[dtype], memory_format=wanted,
        ).to(device)
        for crop in ("own", "same")
    )  # fmt: skip
    return {
        VANILLA: lambda images, index: chain(images).contiguous(memory_format=wanted),
        PER_SAMPLE: lambda images, index: torch.stack([chain(image) for image in images]).contiguous(
            memory_format=wanted
        ),
        OURS: ours,
        OURS_SAME: same,
    }


def training_step(
    model: nn.Module, memory_format: str, autocast: torch.dtype | None
) -> Callable[[Tensor, Tensor], None]:
    """Forward, backward and SGD of the paper's recipe; `autocast`: the dtype of 16 bits that it computes in, if any."""
    optimizer = paper_sgd(model)
    model.to(memory_format=FORMATS[memory_format]).train()

    def step(images: Tensor, labels: Tensor) -> None:
        with torch.autocast(images.device.type, dtype=autocast or torch.bfloat16, enabled=autocast is not None):
            loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def measure(case: Case, model: str | None) -> dict[str, Any]:
    """Every preprocessor alone and, for floats, followed by a training step of a model (None: not), by turns."""
    raw = case.store.image_shape[1]
    images, index = random_images(case.batch, raw, "uint8", "contiguous", case.device), case.index()
    prepare = preprocessors(case.store, case.size, case.dtype, case.memory_format, case.device)
    times = {"alone": case.times({name: partial(run, images, index) for name, run in prepare.items()})}
    if model is not None and case.dtype != "uint8":
        labels = index % 200
        trained = make_model(model, 200).to(case.device)
        autocast = None if case.dtype == "float32" else DTYPES[case.dtype]
        step = training_step(trained, case.memory_format, autocast)

        def trains(run: Callable[[Tensor, Tensor], Tensor]) -> None:
            step(run(images, index), labels)

        times["in a training step"] = case.times({name: partial(trains, run) for name, run in prepare.items()})
    return {"times": times}


def report(result: dict[str, Any]) -> str:
    """Medians, their ratio to torchvision's crop of each image, and what each adds to the vanilla step (eq. 9)."""
    rows = []
    alone, steps = result["times"]["alone"], result["times"].get("in a training step")
    for name, time in alone.items():
        row = [name, f"{time['median_ms']:.3f}", f"{time['p10_ms']:.3f}–{time['p90_ms']:.3f}"]
        row.append(f"{time['median_ms'] / alone[PER_SAMPLE]['median_ms']:.2f}")
        if steps:
            step, vanilla = steps[name], steps[VANILLA]
            overhead = (step["median_ms"] - vanilla["median_ms"]) / vanilla["median_ms"]
            noise = " (noise)" if name != VANILLA and within_noise(step, vanilla) else ""
            row += [f"{step['median_ms']:.2f}", f"{overhead:+.1%}{noise}"]
        rows.append(row)
    header = [f"batch {result['batch']}, {result['dtype']}", "alone, ms", "p10–p90", "of a crop an image"]
    return table([*header, *(["step, ms", "overhead"] if steps else [])], rows)


def main(
    context: typer.Context,
    device: options.Device = GEOMETRY.device,
    model: options.Model = "resnet50",
    batch: options.BatchSizes = GEOMETRY.batch,
    raw: Annotated[int, options.number("--raw", "Side of the raw images.")] = 256,
    size: options.Size = GEOMETRY.size[0],
    dtype: options.Dtypes = GEOMETRY.dtype,
    memory_format: options.Format = GEOMETRY.memory_format[0],
    repeats: options.Repeats = GEOMETRY.repeats,
    alone: Annotated[bool, options.flag("--alone", "Without training steps.")] = False,
    threads: options.Threads = None,
    json: options.ResumableJson = None,
    budget_minutes: options.BudgetMinutes = None,
) -> None:
    """Measure, print, and write JSON if asked."""
    where, threads = options.device_of(device), options.use_threads(threads)
    if not alone:
        check_model(make_model(model, 2), model, 2, size)
    setting = {
        "model": model, "raw": raw, "size": size, "format": memory_format, "repeats": repeats, "alone": alone,
        "threads": threads,
    }  # fmt: skip
    run = Run("geometry", output_of(context, json, budget_minutes), where, setting, GEOMETRY.packages)
    measured = partial(measure, model=None if alone else model)
    op = replace(GEOMETRY, batch=batch, size=[size], dtype=dtype, memory_format=[memory_format], repeats=repeats)
    run_op(run, op, measured, report, store_size=raw)
