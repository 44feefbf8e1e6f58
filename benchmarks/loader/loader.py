"""A store against the folder of PNG files that the published code trains from: images/s and CPU seconds per image.

Every arm loads the same real images with a torch `DataLoader`: decoded by Pillow; RandomResizedCrop, flip, to float and
normalized by torchvision v2 in the workers. The arms take turns, and differ in where the counterparts come from:

- real images alone: no counterparts, the floor.
- folder of PNG files: as in the published code, each sample's generated PNG (512×512 as the paper's authors keep them)
  is decoded and resized to the training size by the same worker, which mixes the two, both as bytes in Pillow.
- folder of PNG files, resized: likewise, with the PNG files already stored at the training size.
- store: the workers load the real image alone; DiffCoreMix mixes the batch out of the memory-mapped store in the
  process that trains. On a GPU twice: the rows of each batch brought to it by `PrefetchLoader`, and all of them there.
- store, cropped in the mix: the workers only decode and resize to bytes of the store's size; DiffCoreMix with geometry=
  crops, mirrors, mixes and normalizes. Its crops come out of smaller images, so they are less sharp.

A turn is one pass of --batches batches with new workers, over the images in a new order and, where they are fewer,
again and again. Its time runs from asking for the first batch until the last one is mixed and on the device; the start
of the workers is part of it. CPU seconds are those of this process and of its workers, with kernel time, less those of
a pass without a batch, which is measured in every turn too (its times are "startup" in the JSON file). All files are in
the system's cache after a pass that is not measured: what is compared is work, not disks. Where an arm and the floor
differ by no more than their spread, the table says "noise".

    diffcore bench loader --workers 0 2 --json benchmarks/results/DEVICE/loader.json
    diffcore bench loader --real birds --generated birds-generated --size 224 --batch 16

Without --real the real images are synthetic JPEG files of 375×500 and the counterparts synthetic PNG files, both with
the spectrum of photographs. With --real alone, its own images, mirrored and cut to squares of --png-size, take the
place of generated ones. --real is only read; what is made goes to a temporary folder.
"""

from __future__ import annotations

import random
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from diffcore_gpu.benchmarks.harness import options
from diffcore_gpu.benchmarks.harness.command import output_of
from diffcore_gpu.benchmarks.harness.measure import quantiles, table, within_noise
from diffcore_gpu.benchmarks.harness.runs import Run
from diffcore_gpu.benchmarks.loader.arms import FLOOR, Pass, make_arms, one_pass
from diffcore_gpu.benchmarks.loader.data import LoaderData, prepare

PACKAGES = ("torchvision", "pillow")
WORKERS = [0, 2]
_FORMS = {"PNG files": "png", "PNG files, resized": "png_resized", "store": "store"}


def figures(passes: Mapping[str, Sequence[Pass]], startup: Sequence[Pass], images: int) -> dict[str, Any]:
    """What a result holds of the passes over `images` images.

    Args:
        passes: of each arm, two or more.
        startup: passes without a batch, from the same turns.
        images: in each pass.
    """
    idle = statistics.median(one.cpu_seconds for one in startup)
    arms = {}
    for name, of in passes.items():
        rates = [images / one.seconds for one in of]
        median, low, high = quantiles(rates)
        cpu = [(one.cpu_seconds - idle) / images for one in of]
        arms[name] = {
            "images_per_second": [round(rate, 3) for rate in rates],
            "cpu_seconds_per_image": [round(seconds, 7) for seconds in cpu],
            "median_images_per_second": median,
            "p10_images_per_second": low,
            "p90_images_per_second": high,
            "median_cpu_seconds_per_image": statistics.median(cpu),
        }
    return {
        "images": images,
        "startup": {
            "seconds": [round(one.seconds, 6) for one in startup],
            "cpu_seconds": [round(one.cpu_seconds, 6) for one in startup],
        },
        "arms": arms,
    }


def measure(
    run: Run, data: LoaderData, workers: int, *, size: int, batch: int, batches: int, repeats: int
) -> dict[str, Any] | None:
    """Passes of every arm with one number of workers; None: the budget was spent before the last turn."""
    arms = make_arms(data, size, run.device)
    samples, count = range(len(data.real.paths)), batches * batch
    passes: dict[str, list[Pass]] = {name: [] for name in arms}
    startup: list[Pass] = []
    for turn in range(-1, repeats):
        if run.spent:
            return None
        generator = random.Random(turn)
        rounds = -(-count // len(samples))
        order = [sample for _ in range(rounds) for sample in generator.sample(samples, len(samples))][:count]
        load = partial(one_pass, batch=batch, workers=workers, device=run.device, seed=turn + 1)
        taken = {name: load(arms[name], order) for name in generator.sample(list(arms), len(arms))}
        idle = load(arms[FLOOR], [])
        if turn >= 0:
            startup.append(idle)
            for name, one in taken.items():
                passes[name].append(one)
    return {**figures(passes, startup, count), "bytes": data.bytes}


def report(result: Mapping[str, Any]) -> str:
    """The table of one number of workers."""
    floor = result["arms"][FLOOR]
    rows = [
        (
            name,
            f"{arm['median_images_per_second']:.1f}",
            f"{arm['p10_images_per_second']:.1f}–{arm['p90_images_per_second']:.1f}",
            f"{1e3 * arm['median_cpu_seconds_per_image']:.2f}",
            f"{arm['median_images_per_second'] / floor['median_images_per_second']:.2f}"
            + (" (noise)" if name != FLOOR and within_noise(arm, floor, "images_per_second") else ""),
        )
        for name, arm in result["arms"].items()
    ]
    header = (f"workers {result['workers']}", "images/s", "p10–p90", "CPU, ms/image", "of the floor")
    sizes = result["bytes"]
    return "\n".join(
        [
            table(header, rows),
            f"{result['images']} images in a pass; starting and ending the workers: "
            f"{statistics.median(result['startup']['seconds']):.3f} s.",
            "Counterparts on disk: "
            + ", ".join(f"{form} {sizes[key] / 1e6:.1f} MB" for form, key in _FORMS.items())
            + ".",
        ]
    )


def main(
    context: typer.Context,
    device: options.Device = "cpu",
    real: options.Real = None,
    generated: Annotated[
        Path | None, options.folder("--generated", "PNG files in the class folders of --real.")
    ] = None,
    images: Annotated[int, options.number("--images", "How many, spread evenly over --real.")] = 256,
    size: options.Size = 224,
    png_size: Annotated[int, options.number("--png-size", "Of PNG files made here.")] = 512,
    batch: options.Batch = 32,
    batches: Annotated[int, options.number("--batches", "Of a pass.")] = 32,
    workers: Annotated[
        list[int], options.number("--workers", "Of the loader; one or more.", options.not_negative)
    ] = WORKERS,
    repeats: options.Spread = 5,
    threads: options.Threads = None,
    json: options.ResumableJson = None,
    budget_minutes: options.BudgetMinutes = None,
) -> None:
    """Measure what is not in the JSON file yet; the result is written after each number of workers."""
    threads, where = options.use_threads(threads), options.device_of(device)
    setting = {
        "batch": batch, "batches": batches, "images": images, "size": size, "png_size": png_size, "repeats": repeats,
        "threads": threads, "device": device,
        "data": None if real is None else real.name, "generated": None if generated is None else generated.name,
    }  # fmt: skip
    run = Run("loader", output_of(context, json, budget_minutes), where, setting, PACKAGES)
    with tempfile.TemporaryDirectory() as folder:
        data = prepare(real, generated, Path(folder), images=images, size=size, png_size=png_size)
        how = {"size": size, "batch": batch, "batches": batches, "repeats": repeats}
        run.do(
            [{"workers": number} for number in workers], lambda part: measure(run, data, part["workers"], **how), report
        )
