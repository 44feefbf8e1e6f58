"""What the codecs of a store cost and save: bytes, pixels, rows a second, and the speed of a loader.

Three parts, on photographs that are cut to squares (--real, or synthetic ones with their spectrum):

- size: the bytes of each codec over those of the pixels, images encoded and decoded per second by one thread, and how
  far the pixels that come back are from those that were given, in levels of 255.
- store: rows per second of `CounterpartStore.images` in random batches, decoded by the threads of the store. Once from
  the system's cache, and once from a storage of --rate MB/s, which is an imitation: the calls that read sleep for as
  long as it would take, across all threads (`benchmarks/loader/throttle.py`). The raw store is there twice; the
  difference of the two, which ought to be none, is the error of the others.
- loader: images per second of a `DataLoader` with --workers, that decode, crop and mirror real images, with a mix on
  the CPU in the process that trains. A raw store in memory, that again, and JPEG from its files, decoded in the call of
  the mix or ahead of it by a `PrefetchLoader`.

Ratios are of the two arms in the same turn, with intervals for their medians that hold together with 95 %. CPU time is
that of all threads, and of the loader's workers with their start: where other programs run beside this, it is what a
row costs, and the rates are too low.

    diffcore bench codecs --real birds --json benchmarks/results/DEVICE/codecs.json
"""

from __future__ import annotations

import itertools
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import typer
from torch import Tensor

from diffcore_gpu import CounterpartStore, CounterpartWriter, DiffCoreMix
from diffcore_gpu.benchmarks.harness import options
from diffcore_gpu.benchmarks.harness.command import output_of
from diffcore_gpu.benchmarks.harness.intervals import corrected, median_interval
from diffcore_gpu.benchmarks.harness.measure import interleaved, quantiles, table
from diffcore_gpu.benchmarks.harness.random_data import MEAN, STD
from diffcore_gpu.benchmarks.harness.runs import Run
from diffcore_gpu.benchmarks.loader.arms import Arm, RealImages, one_pass, training_transform
from diffcore_gpu.benchmarks.loader.data import Chosen, chosen_of
from diffcore_gpu.benchmarks.loader.pictures import write_photographs
from diffcore_gpu.benchmarks.loader.throttle import throttled
from diffcore_gpu.benchmarks.reporting.suite_tables import codecs_tables
from diffcore_gpu.packing.decode import decode, pillow_ready
from diffcore_gpu.packing.options import Fit
from diffcore_gpu.store.codecs import codec_named
from diffcore_gpu.threads import default_workers, map_in_order

PACKAGES = ("torchvision", "pillow", "simplejpeg")
SETTINGS = ("raw", "jpeg", "jpeg:90", "webp")
RAW, AGAIN = "raw", "raw again"
Images = npt.NDArray[np.uint8]


def photographs(real: Chosen, size: int) -> Images:
    """The real images, cut to squares: uint8 [n, 3, size, size]."""

    def one(path: Path) -> Images:
        return decode(path, size, size, Fit.CROP).pixels

    with pillow_ready():
        return np.stack(list(map_in_order(one, real.paths, default_workers())))


def measure_size(images: Images, setting: str) -> dict[str, Any]:
    """Bytes, error, and the speed of one thread that encodes and decodes."""
    codec = codec_named(setting)
    start = time.perf_counter()
    encoded = [codec.encode(image) for image in images]
    middle = time.perf_counter()
    seen = np.empty_like(images)
    for data, out in zip(encoded, seen, strict=True):
        codec.decode(data, out)
    end = time.perf_counter()
    errors = np.abs(seen.astype(np.int16) - images)
    return {
        "bytes": sum(map(len, encoded)),
        "share": sum(map(len, encoded)) / images.nbytes,
        "encoded_per_second": len(images) / (middle - start),
        "decoded_per_second": len(images) / (end - middle),
        "mean_error": float(errors.mean()),
        "largest_error": int(errors.max()),
    }


def write_store(path: Path, images: Images, labels: Sequence[int], classes: int, setting: str) -> Path:
    """A store of these images, of which each serves one sample; three times over, so that batches differ."""
    labels = list(labels) * 3
    with CounterpartWriter(
        path,
        num_samples=len(labels),
        image_shape=images.shape[1:],
        class_names=[f"class {number}" for number in range(classes)],
        labels=labels,
        codec=setting,
    ) as writer:
        for row, (image, label) in enumerate(zip(itertools.cycle(images), labels, strict=False)):
            writer.add_row(image, label=label)
            writer.add_pair(row, row)
    return path


def measure_store(
    stores: Mapping[str, CounterpartStore], *, batch: int, repeats: int, rate: float | None
) -> dict[str, Any]:
    """Rows per second of each store; raw is read by position as the others are."""
    generator = torch.Generator().manual_seed(0)
    some = next(iter(stores.values()))
    buffer = torch.empty((batch, *some.image_shape), dtype=torch.uint8)

    def batches() -> Iterator[Tensor]:
        while True:
            yield torch.randperm(some.num_rows, generator=generator)[:batch]

    drawn = batches()
    cpu: dict[str, list[float]] = {name: [] for name in stores}

    def read(name: str) -> None:
        rows, begun = next(drawn), time.process_time()
        with nullcontext() if rate is None else throttled(rate):
            stores[name].images(rows, out=buffer)
        cpu[name].append((time.process_time() - begun) / batch)

    actions: dict[str, Callable[[], object]] = {name: partial(read, name) for name in stores}
    seconds = interleaved(actions, device=torch.device("cpu"), repeats=repeats, warmup=3)
    rates = {name: [batch / value for value in values] for name, values in seconds.items()}
    return {"batch": batch, "arms": compared(rates, {name: used[-repeats:] for name, used in cpu.items()}, RAW)}


def measure_loader(
    real: Chosen,
    stores: Mapping[str, CounterpartStore],
    *,
    size: int,
    batch: int,
    batches: int,
    workers: int,
    repeats: int,
) -> dict[str, Any]:
    """Images per second of a loader with each of the stores."""
    dataset = RealImages(real, training_transform(size))
    for store in stores.values():
        store.bind(real.labels, labels=real.labels)
    in_memory = DiffCoreMix(stores[RAW], mean=MEAN, std=STD, residency="device")
    jpeg = DiffCoreMix(stores["jpeg"], mean=MEAN, std=STD, residency="disk")
    arms = {
        "raw in memory": Arm(dataset, in_memory),
        "raw in memory, again": Arm(dataset, in_memory),
        "jpeg, decoded in the mix": Arm(dataset, jpeg),
        "jpeg, decoded by a PrefetchLoader": Arm(dataset, jpeg, prefetch=True),
    }
    count = batch * batches
    rates: dict[str, list[float]] = {name: [] for name in arms}
    cpu: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(-1, repeats):
        shuffled = random.Random(turn)
        rounds = range(-(-count // len(real.paths)))
        order = [sample for _ in rounds for sample in shuffled.sample(range(len(real.paths)), len(real.paths))][:count]
        for name in shuffled.sample(list(arms), len(arms)):
            taken = one_pass(arms[name], order, batch=batch, workers=workers, device=torch.device("cpu"), seed=turn + 1)
            if turn >= 0:
                rates[name].append(count / taken.seconds)
                cpu[name].append(taken.cpu_seconds / count)
    return {"images": count, "arms": compared(rates, cpu, "raw in memory")}


def compared(rates: Mapping[str, Sequence[float]], cpu: Mapping[str, Sequence[float]], first: str) -> dict[str, Any]:
    """Figures of each arm, its ratio to the first in the same turn, and its CPU seconds for each row or image."""
    coverage = corrected(len(rates) - 1)
    arms = {}
    for name, values in rates.items():
        median, low, high = quantiles(values)
        ratios = [value / other for value, other in zip(values, rates[first], strict=True)]
        interval = median_interval(ratios, coverage)
        arms[name] = {
            "per_second": [round(value, 2) for value in values],
            "median_per_second": median,
            "p10_per_second": low,
            "p90_per_second": high,
            "cpu_us": [round(1e6 * value, 2) for value in cpu[name]],
            "ratio": {"median": statistics.median(ratios), "low": interval.low, "high": interval.high},
        }
    return arms


def report(result: Mapping[str, Any]) -> str:
    """The figures of one part."""
    found = codecs_tables({"results": [result]})
    return "\n\n".join(f"{one.title}\n{table(one.header, one.rows)}" for one in found)


def main(
    context: typer.Context,
    real: options.Real = None,
    images: Annotated[int, options.number("--images", "How many, spread evenly over --real.")] = 256,
    size: options.Size = 256,
    batch: options.Batch = 64,
    batches: Annotated[int, options.number("--batches", "Of a pass of the loader.")] = 16,
    workers: Annotated[int, options.number("--workers", "Of the loader.", options.not_negative)] = 2,
    rate: Annotated[int, options.number("--rate", "Of the slow storage, in MB/s.")] = 250,
    repeats: options.Spread = 30,
    passes: Annotated[int, options.number("--passes", "Of the loader, 2 or more.", options.with_spread)] = 9,
    threads: options.Threads = None,
    json: options.ResumableJson = None,
    budget_minutes: options.BudgetMinutes = None,
) -> None:
    """Measure what is not in the JSON file yet; the result is written after each part."""
    setting = {
        "images": images, "size": size, "batch": batch, "batches": batches, "workers": workers, "rate": rate,
        "repeats": repeats, "passes": passes, "threads": options.use_threads(threads),
        "data": None if real is None else real.name,
    }  # fmt: skip
    run = Run("codecs", output_of(context, json, budget_minutes), torch.device("cpu"), setting, PACKAGES)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if real is None:
            real = folder / "real"
            write_photographs(real, images)
        chosen = chosen_of(real, images)
        pixels = photographs(chosen, size)
        paths = {
            codec: write_store(folder / codec, pixels, chosen.labels, len(chosen.class_names), codec)
            for codec in ("raw", "jpeg", "webp")
        }
        by_position = {name: CounterpartStore.open(path, reading="pread") for name, path in paths.items()}
        stores = {RAW: by_position[RAW], AGAIN: CounterpartStore.open(paths[RAW], reading="pread"), **by_position}
        mixed = {RAW: CounterpartStore.open(paths[RAW]), "jpeg": by_position["jpeg"]}
        how = {"size": size, "batch": batch, "batches": batches, "workers": workers, "repeats": passes}
        measures: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "size": lambda part: measure_size(pixels, part["codec"]),
            "store": lambda part: measure_store(
                stores, batch=batch, repeats=repeats, rate=None if part["mb_per_s"] is None else part["mb_per_s"] * 1e6
            ),
            "loader": lambda part: measure_loader(chosen, mixed, **how),
        }
        parts: list[dict[str, Any]] = [{"what": "size", "codec": codec} for codec in SETTINGS]
        parts += [{"what": "store", "mb_per_s": limit} for limit in (None, rate)]
        parts += [{"what": "loader", "workers": workers}]
        run.do(parts, lambda part: measures[part["what"]](part), report)
