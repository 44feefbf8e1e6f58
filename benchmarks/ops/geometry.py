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

import argparse
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffcore_gpu import CounterpartStore, DiffCoreMix, RandomResizedCropMirror
from diffcore_gpu.benchmarks.harness.measure import interleaved, summary, table, within_noise
from diffcore_gpu.benchmarks.harness.options import SuiteParser, device_of, positive
from diffcore_gpu.benchmarks.harness.random_data import DTYPES, FORMATS, MEAN, ROWS, STD, random_images, random_store
from diffcore_gpu.benchmarks.harness.runs import Run
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


def measure(
    options: argparse.Namespace, store: CounterpartStore, batch: int, dtype: str, device: torch.device
) -> dict[str, Any]:
    """Every preprocessor alone and, for floats if asked, followed by a training step, by turns."""
    images = random_images(batch, options.raw, "uint8", "contiguous", device)
    index = torch.arange(batch, device=device) % ROWS
    prepare = preprocessors(store, options.size, dtype, options.format, device)
    common = {"device": device, "repeats": options.repeats, "warmup": 3}
    alone = {name: partial(run, images, index) for name, run in prepare.items()}
    times = {"alone": {name: summary(seconds) for name, seconds in interleaved(alone, **common).items()}}
    if not options.alone and dtype != "uint8":
        labels = index % 200
        model = make_model(options.model, 200).to(device)
        step = training_step(model, options.format, None if dtype == "float32" else DTYPES[dtype])
        trained = {name: (lambda run=run: step(run(images, index), labels)) for name, run in prepare.items()}
        times["in a training step"] = {
            name: summary(seconds) for name, seconds in interleaved(trained, **common).items()
        }
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


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = SuiteParser("geometry", __doc__)
    parser.add_device("cuda")
    parser.add_argument("--model", default="resnet50", help="of torchvision or timm (default: %(default)s)")
    parser.add_argument("--batch", type=positive, nargs="+", default=[16, 64, 256], help="default: 16 64 256")
    parser.add_argument("--raw", type=positive, default=256, help="side of the raw images (default: %(default)s)")
    parser.add_argument("--size", type=positive, default=224, help="side of the crops (default: %(default)s)")
    parser.add_argument("--dtype", choices=DTYPES, nargs="+", default=["bfloat16"], help="default: bfloat16")
    parser.add_argument("--format", choices=FORMATS, default="channels_last", help="default: %(default)s")
    parser.add_argument("--repeats", type=positive, default=30, help="measured rounds (default: %(default)s)")
    parser.add_argument("--alone", action="store_true", help="without training steps")
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads(), help="default: %(default)s")
    parser.add_resumable_json()
    return parser.parse(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write JSON if asked."""
    options = parse(arguments)
    device = device_of(options)
    torch.set_num_threads(options.threads)
    if not options.alone:
        check_model(make_model(options.model, 2), options.model, 2, options.size)
    setting = ("model", "raw", "size", "format", "repeats", "alone", "threads")
    run = Run("geometry", options, device, setting, ("torchvision", "timm"))
    with tempfile.TemporaryDirectory() as folder:
        store = random_store(Path(folder) / "store", options.raw)
        parts = [{"batch": batch, "dtype": dtype} for dtype in options.dtype for batch in options.batch]
        run.do(parts, lambda part: measure(options, store, part["batch"], part["dtype"], device), report)
