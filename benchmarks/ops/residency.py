"""What it costs a training loop that the counterparts lie in the device's memory, in host memory, or on disk.

Every arm trains the same model on the same batches through a `PrefetchLoader`; "none" mixes nothing. The arms take
turns, block by block. "host" is measured in two ways on a GPU: rows gathered into page-locked memory and copied on a
side stream (what `residency="host"` does), and a kernel that reads page-locked rows across the bus by itself.

    diffcore bench residency --device cuda --json benchmarks/results/DEVICE/residency.json
    diffcore bench residency --device cpu --model resnet18 --batch 8 --size 64 --rounds 3
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from diffcore_gpu import CounterpartStore, DiffCoreMix, PrefetchLoader
from diffcore_gpu.benchmarks.harness import options
from diffcore_gpu.benchmarks.harness.command import output_of
from diffcore_gpu.benchmarks.harness.measure import table, within_noise
from diffcore_gpu.benchmarks.harness.random_data import FORMATS, MEAN, ROWS, STD
from diffcore_gpu.benchmarks.harness.runs import Run
from diffcore_gpu.benchmarks.ops.geometry import training_step
from diffcore_gpu.benchmarks.ops.registry import RESIDENCY
from diffcore_gpu.benchmarks.ops.runner import Case, run_op, summaries
from diffcore_gpu.benchmarks.training.models import check_model, make_model
from diffcore_gpu.store.residency import Residency


class Batches:
    """Normalized batches of random pixels with labels and indices, made once and yielded anew."""

    def __init__(self, count: int, batch: int, size: int, pin: bool) -> None:
        generator = torch.Generator().manual_seed(0)
        self.batches = []
        for step in range(count):
            index = (torch.arange(batch) + step * batch) % ROWS
            images = torch.randn(batch, 3, size, size, generator=generator)
            whole = images, index % 200, index
            self.batches.append(tuple(part.pin_memory() for part in whole) if pin else whole)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


def arms(store: CounterpartStore, batches: Batches, device: torch.device) -> dict[str, Callable[[], Iterator[Any]]]:
    """Name → function that yields (mixed images, labels) of one pass over the batches."""

    def with_residency(residency: Residency) -> Callable[[], Iterator[tuple[Tensor, Tensor]]]:
        module = DiffCoreMix(store, residency=residency, mean=MEAN, std=STD).to(device)

        def run() -> Iterator[tuple[Tensor, Tensor]]:
            for images, labels, index in PrefetchLoader(batches, module, device):
                yield module(images, index), labels

        return run

    def none() -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels, _ in PrefetchLoader(batches, None, device):
            yield images, labels

    names: tuple[Residency, ...] = ("device", "host", "disk")
    found: dict[str, Callable[[], Iterator[Any]]] = {"none": none}
    found.update((name, with_residency(name)) for name in names)
    if device.type == "cuda":
        pinned = torch.empty((store.num_rows, *store.image_shape), dtype=torch.uint8, pin_memory=True)
        store.images(range(store.num_rows), out=pinned)

        across = DiffCoreMix(store, residency="device", mean=MEAN, std=STD).to(device)
        across._resident.shards = [pinned]  # in place of the copy in the GPU's memory, which is freed

        def across_the_bus() -> Iterator[tuple[Tensor, Tensor]]:
            for images, labels, index in PrefetchLoader(batches, None, device):
                yield across(images, index), labels

        found["host, read by the kernel"] = across_the_bus
    return found


def measure(case: Case, model: str, steps: int) -> dict[str, Any]:
    """Seconds per step of every arm, one figure for each round of `steps` steps, the arms taking turns."""
    on_gpu = case.device.type == "cuda"
    batches = Batches(steps, case.batch, case.size, pin=on_gpu)
    step = training_step(make_model(model, 200).to(case.device), case.memory_format, torch.bfloat16 if on_gpu else None)

    def block(run: Callable[[], Iterator[Any]]) -> None:
        for images, labels in run():
            step(images.contiguous(memory_format=FORMATS[case.memory_format]), labels)
        if on_gpu:
            torch.cuda.synchronize()

    found = arms(case.store, batches, case.device)
    seconds = case.seconds({name: partial(block, run) for name, run in found.items()})
    return {"times": summaries(seconds, steps)}


def report(result: dict[str, Any]) -> str:
    """Time per step of each arm and its overhead over training without a mix (eq. 9)."""
    times = result["times"]
    none = times["none"]
    rows = []
    for name, found in times.items():
        overheads = [a / b - 1 for a, b in zip(found["samples_ms"], none["samples_ms"], strict=True)]
        noise = " (noise)" if name != "none" and within_noise(found, none) else ""
        rows.append((name, f"{found['median_ms']:.2f}", f"{statistics.median(overheads):+.1%}{noise}"))
    return table((f"batch {result['batch']}", "step, ms", "overhead"), rows)


def main(
    context: typer.Context,
    device: options.Device = RESIDENCY.device,
    model: options.Model = "resnet50",
    batch: options.BatchSizes = RESIDENCY.batch,
    size: options.Size = RESIDENCY.size[0],
    memory_format: options.Format = RESIDENCY.memory_format[0],
    steps: Annotated[int, options.number("--steps", "Steps of one block.")] = 20,
    rounds: Annotated[int, options.number("--rounds", "Measured blocks of each arm.")] = RESIDENCY.repeats,
    json: options.ResumableJson = None,
    budget_minutes: options.BudgetMinutes = None,
) -> None:
    """Measure, print, and write JSON if asked."""
    where = options.device_of(device)
    check_model(make_model(model, 2), model, 2, size)
    setting = {"model": model, "size": size, "format": memory_format, "steps": steps, "rounds": rounds}
    run = Run("residency", output_of(context, json, budget_minutes), where, setting, RESIDENCY.packages)
    op = replace(RESIDENCY, batch=batch, size=[size], memory_format=[memory_format], repeats=rounds)
    run_op(run, op, partial(measure, model=model, steps=steps), report)
