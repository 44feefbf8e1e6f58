"""What it costs a training loop that the counterparts lie in the device's memory, in host memory, or on disk.

Every arm trains the same model on the same batches through a `PrefetchLoader`; "none" mixes nothing. The arms take
turns, block by block. "host" is measured in two ways on a GPU: rows gathered into page-locked memory and copied on a
side stream (what `residency="host"` does), and a kernel that reads page-locked rows across the bus by itself.

    diffcore bench residency --device cuda --json benchmarks/results/DEVICE/residency.json
    diffcore bench residency --device cpu --model resnet18 --batch 8 --size 64 --rounds 3
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffcore_gpu import CounterpartStore, DiffCoreMix, PrefetchLoader
from diffcore_gpu.benchmarks.harness.measure import summary, table, within_noise
from diffcore_gpu.benchmarks.harness.options import SuiteParser, device_of, positive
from diffcore_gpu.benchmarks.harness.random_data import FORMATS, MEAN, ROWS, STD, random_store
from diffcore_gpu.benchmarks.harness.runs import Run
from diffcore_gpu.benchmarks.ops.geometry import training_step
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


def measure(options: argparse.Namespace, store: CounterpartStore, batch: int, device: torch.device) -> dict[str, Any]:
    """Seconds per step of every arm, one figure for each round of `--steps` steps, the arms taking turns."""
    on_gpu = device.type == "cuda"
    batches = Batches(options.steps, batch, options.size, pin=on_gpu)
    model = make_model(options.model, 200).to(device)
    step = training_step(model, options.format, torch.bfloat16 if on_gpu else None)
    found = arms(store, batches, device)
    seconds: dict[str, list[float]] = {name: [] for name in found}
    for round in range(-1, options.rounds):
        for name, run in found.items():
            if on_gpu:
                torch.cuda.synchronize()
            start = time.perf_counter()
            for images, labels in run():
                step(images.contiguous(memory_format=FORMATS[options.format]), labels)
            if on_gpu:
                torch.cuda.synchronize()
            if round >= 0:
                seconds[name].append((time.perf_counter() - start) / len(batches))
    return {"times": {name: summary(values) for name, values in seconds.items()}}


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


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = SuiteParser("residency", __doc__)
    parser.add_device("cuda")
    parser.add_argument("--model", default="resnet50", help="of torchvision or timm (default: %(default)s)")
    parser.add_argument("--batch", type=positive, nargs="+", default=[64, 256], help="default: 64 256")
    parser.add_argument("--size", type=positive, default=224, help="height and width (default: %(default)s)")
    parser.add_argument("--format", choices=FORMATS, default="channels_last", help="default: %(default)s")
    parser.add_argument("--steps", type=positive, default=20, help="steps of one block (default: %(default)s)")
    parser.add_argument("--rounds", type=positive, default=8, help="measured blocks of each arm (default: %(default)s)")
    parser.add_resumable_json()
    return parser.parse(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write JSON if asked."""
    options = parse(arguments)
    device = device_of(options)
    check_model(make_model(options.model, 2), options.model, 2, options.size)
    setting = ("model", "size", "format", "steps", "rounds")
    run = Run("residency", options, device, setting, ("torchvision", "timm"))
    with tempfile.TemporaryDirectory() as folder:
        store = random_store(Path(folder) / "store", options.size)
        batches = [{"batch": batch} for batch in options.batch]
        run.do(batches, lambda part: measure(options, store, part["batch"], device), report)
