"""What it costs a training loop that the counterparts lie in the device's memory, in host memory, or on disk.

Every arm trains the same model on the same batches through a `PrefetchLoader`; "none" mixes nothing. The arms take
turns, block by block. "host" is measured in two ways on a GPU: rows gathered into page-locked memory and copied on a
side stream (what `residency="host"` does), and a kernel that reads page-locked rows across the bus by itself.

    python benchmarks/residency.py --device cuda --json benchmarks/results/DEVICE/residency.json
    python benchmarks/residency.py --device cpu --model resnet18 --batch 8 --size 64 --rounds 3
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from geometry import training_step
from measure import environment, need_gpu, summary, table, within_noise, write_json
from random_data import FORMATS, MEAN, ROWS, STD, random_store
from torch import Tensor

from diffcore_gpu import CounterpartStore, DiffCoreMix, PrefetchLoader, draw_plan


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

    def with_residency(residency: str) -> Callable[[], Iterator[tuple[Tensor, Tensor]]]:
        module = DiffCoreMix(store, residency=residency, mean=MEAN, std=STD).to(device)

        def run() -> Iterator[tuple[Tensor, Tensor]]:
            for images, labels, index in PrefetchLoader(batches, module, device):
                yield module(images, index), labels

        return run

    def none() -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels, _ in PrefetchLoader(batches, None, device):
            yield images, labels

    found = {"none": none, **{name: with_residency(name) for name in ("device", "host", "disk")}}
    if device.type == "cuda":
        pinned = torch.empty((store.num_rows, *store.image_shape), dtype=torch.uint8, pin_memory=True)
        store.images(range(store.num_rows), out=pinned)

        def across_the_bus() -> Iterator[tuple[Tensor, Tensor]]:
            from diffcore_gpu.ops.normalization import affine_on

            norm = affine_on(MEAN, STD, 3, device)
            height, width = store.image_shape[1:]
            for images, labels, index in PrefetchLoader(batches, None, device):
                plan = draw_plan(index, on_device, height=height, width=width)
                mixed = torch.ops.diffcore.mix_plan(
                    images, pinned, norm, plan.row, plan.pixel, plan.lam, plan.box, plan.inside_real
                )
                yield mixed, labels

        on_device = DiffCoreMix(store, residency="device").to(device)._resident.pairs
        found["host, read by the kernel"] = across_the_bus
    return found


def measure(options: argparse.Namespace, store: CounterpartStore, batch: int, device: torch.device) -> dict[str, Any]:
    """Seconds per step of every arm, one figure for each round of `--steps` steps, the arms taking turns."""
    import torchvision

    on_gpu = device.type == "cuda"
    batches = Batches(options.steps, batch, options.size, pin=on_gpu)
    model = torchvision.models.get_model(options.model, num_classes=200).to(device)
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
    return {"batch": batch, "times": {name: summary(values) for name, values in seconds.items()}}


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


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda", help="default: %(default)s")
    parser.add_argument("--model", default="resnet50", help="of torchvision (default: %(default)s)")
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 256], help="default: 64 256")
    parser.add_argument("--size", type=int, default=224, help="height and width (default: %(default)s)")
    parser.add_argument("--format", choices=FORMATS, default="channels_last", help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=20, help="steps of one block (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=8, help="measured blocks of each arm (default: %(default)s)")
    parser.add_argument("--json", type=Path, default=None, help="also write figures and samples here")
    return parser.parse_args()


def main() -> None:
    """Measure, print, and write JSON if asked."""
    options = parse()
    device = need_gpu("residency.py --device cuda") if options.device == "cuda" else torch.device("cpu")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        store = random_store(Path(folder) / "store", options.size)
        for batch in options.batch:
            results.append(measure(options, store, batch, device))
            print(report(results[-1]), end="\n\n", flush=True)
    if options.json is not None:
        setting = {name: getattr(options, name) for name in ("model", "size", "format", "steps", "rounds")}
        write_json(
            options.json,
            {"environment": environment(device, ("torchvision",)), "setting": setting, "results": results},
        )


if __name__ == "__main__":
    main()
