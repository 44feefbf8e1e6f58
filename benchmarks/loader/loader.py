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
    diffcore bench loader --data birds --generated birds-generated --size 224 --batch 16

Without --data the real images are synthetic JPEG files of 375×500 and the counterparts synthetic PNG files, both with
the spectrum of photographs. With --data alone, its own images, mirrored and cut to squares of --png-size, take the
place of generated ones. --data is only read; what is made goes to a temporary folder.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from diffcore_gpu.benchmarks.harness.measure import quantiles, table, within_noise
from diffcore_gpu.benchmarks.harness.options import SuiteParser, device_of, not_negative, positive
from diffcore_gpu.benchmarks.harness.runs import Run
from diffcore_gpu.benchmarks.loader.arms import FLOOR, Pass, make_arms, one_pass
from diffcore_gpu.benchmarks.loader.data import LoaderData, prepare
from diffcore_gpu.errors import BenchmarkError

PACKAGES = ("torchvision", "pillow")
SETTING = ("batch", "batches", "images", "size", "png_size", "repeats", "threads", "device")
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
    options: argparse.Namespace, data: LoaderData, workers: int, device: torch.device, run: Run
) -> dict[str, Any] | None:
    """Passes of every arm with one number of workers; None: the budget was spent before the last turn."""
    arms = make_arms(data, options.size, device)
    samples, count = range(len(data.real.paths)), options.batches * options.batch
    passes: dict[str, list[Pass]] = {name: [] for name in arms}
    startup: list[Pass] = []
    for turn in range(-1, options.repeats):
        if run.spent:
            return None
        generator = random.Random(turn)
        rounds = -(-count // len(samples))
        order = [sample for _ in range(rounds) for sample in generator.sample(samples, len(samples))][:count]
        load = partial(one_pass, batch=options.batch, workers=workers, device=device, seed=turn + 1)
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


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = SuiteParser("loader", __doc__)
    parser.add_device("cpu")
    parser.add_argument("--data", type=Path, default=None, help="ImageFolder of real images (default: synthetic ones)")
    parser.add_argument("--generated", type=Path, default=None, help="PNG files in the class folders of --data")
    parser.add_argument(
        "--images", type=positive, default=256, help="how many, spread evenly over --data (default: %(default)s)"
    )
    parser.add_argument(
        "--size", type=positive, default=224, help="of training images and store (default: %(default)s)"
    )
    parser.add_argument("--png-size", type=positive, default=512, help="of PNG files made here (default: %(default)s)")
    parser.add_argument("--batch", type=positive, default=32, help="default: %(default)s")
    parser.add_argument("--batches", type=positive, default=32, help="of a pass (default: %(default)s)")
    parser.add_argument("--workers", type=not_negative, nargs="+", default=[0, 2], help="default: 0 2")
    parser.add_argument("--repeats", type=positive, default=5, help="measured turns (default: %(default)s)")
    parser.add_argument(
        "--threads", type=positive, default=torch.get_num_threads(), help="of this process (default: %(default)s)"
    )
    parser.add_resumable_json()
    return parser.parse(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is not in the JSON file yet; the result is written after each number of workers."""
    options = parse(arguments)
    if options.repeats < 2:
        raise BenchmarkError("--repeats must be 2 or more, so that there is a spread.")
    torch.set_num_threads(options.threads)
    device = device_of(options)
    setting = {name: getattr(options, name) for name in SETTING}
    for name in ("data", "generated"):  # folders by their names alone
        setting[name] = None if getattr(options, name) is None else getattr(options, name).name
    run = Run("loader", options, device, setting, PACKAGES)
    with tempfile.TemporaryDirectory() as folder:
        data = prepare(
            options.data,
            options.generated,
            Path(folder),
            images=options.images,
            size=options.size,
            png_size=options.png_size,
        )
        run.do(
            [{"workers": workers} for workers in options.workers],
            lambda part: measure(options, data, part["workers"], device, run),
            report,
        )
