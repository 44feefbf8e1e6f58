"""How close the mix comes to the device's own copy: bytes that must move, over time, over the copy's rate.

Every dtype × memory format × batch × size, with pixels alone, patches alone and the defaults, and in the same turns a
device-to-device copy of the same batch and one of 256 MiB. Counted are only bytes that must move, as kernels/mix.py
defines them; each plan is fixed, so the count is exact. The time is that of the device alone: the host has queued the
call before it begins.

    diffcore bench bandwidth --json benchmarks/results/DEVICE/bandwidth.json
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from diffcore_gpu import CounterpartStore, DiffCoreMix
from diffcore_gpu.benchmarks.arguments import SuiteParser, device_of, positive
from diffcore_gpu.benchmarks.measure import interleaved, summary, table
from diffcore_gpu.benchmarks.random_data import DTYPES, FORMATS, MEAN, ROWS, STD, random_images, random_store
from diffcore_gpu.benchmarks.runs import Run
from diffcore_gpu.profiling import bytes_to_move

KINDS = {"pixel": 1.0, "patch": 0.0, "default": 0.5}
LARGE_COPY = 256 << 20
"""Bytes of the large copy: far more than any cache."""


def fractions(times: dict[str, dict[str, Any]], moved: dict[str, int]) -> dict[str, dict[str, float]]:
    """Rate in GB/s of each action at its median, and its share of the rates of the two copies.

    Args:
        times: `summary` of each action; among them "copy" and "large copy".
        moved: bytes that each moves.
    """
    rates = {name: moved[name] / times[name]["median_ms"] / 1e6 for name in times}
    return {
        name: {
            "gb_per_s": rate,
            "of_copy": rate / rates["copy"],
            "of_large_copy": rate / rates["large copy"],
        }
        for name, rate in rates.items()
    }


def measure_case(
    store: CounterpartStore,
    *,
    size: int,
    dtype: str,
    memory_format: str,
    batch: int,
    device: torch.device,
    repeats: int,
) -> dict[str, Any]:
    """All kinds of mix and both copies on one batch."""
    images = random_images(batch, size, dtype, memory_format, device)
    index = torch.randperm(ROWS, generator=torch.Generator().manual_seed(batch))[:batch].to(device)
    target = torch.empty_like(images)
    large, large_target = (torch.zeros(LARGE_COPY, dtype=torch.uint8, device=device) for _ in range(2))
    actions: dict[str, Callable[[], object]] = {
        "copy": lambda: target.copy_(images),
        "large copy": lambda: large_target.copy_(large),
    }
    moved = {"copy": 2 * images.nbytes, "large copy": 2 * LARGE_COPY}
    for kind, pixel_prob in KINDS.items():
        mix = DiffCoreMix(store, pixel_prob=pixel_prob, mean=MEAN, std=STD).to(device)
        mix.set_epoch(0)  # the same plan in every call
        _, plan = mix(images, index, return_plan=True)
        moved[kind] = bytes_to_move(plan, store.image_shape, images.element_size())
        actions[kind] = partial(mix, images, index)
    seconds = interleaved(actions, device=device, repeats=repeats, head_start=True)
    times = {name: summary(values) for name, values in seconds.items()}
    return {"bytes": moved, "rates": fractions(times, moved), "times": times}


def report(case: Mapping[str, Any]) -> str:
    """Time, and share of the copy of the same batch and of the large copy, of each kind of mix."""
    rows = [
        (
            kind,
            f"{case['times'][kind]['median_ms'] * 1e3:.1f}",
            f"{rate['gb_per_s']:.0f}",
            f"{rate['of_copy']:.2f}",
            f"{rate['of_large_copy']:.2f}",
        )
        for kind, rate in case["rates"].items()
    ]
    title = f"{case['batch']}×3×{case['size']}×{case['size']} {case['dtype']} {case['memory_format']}"
    return table((title, "µs", "GB/s", "of copy", "of large copy"), rows)


def measure_size(run: Run, options: argparse.Namespace, size: int, device: torch.device) -> None:
    """Every dtype, format and batch of one image size."""
    with tempfile.TemporaryDirectory() as folder:
        store = random_store(Path(folder) / "store", size)
        run.do(
            [
                {"size": size, "dtype": dtype, "memory_format": memory_format, "batch": batch}
                for dtype in options.dtype
                for memory_format in options.format
                for batch in options.batch
            ],
            lambda part: measure_case(store, **part, device=device, repeats=options.repeats),
            report,
        )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = SuiteParser("bandwidth", __doc__)
    parser.add_device("cuda")
    parser.add_argument("--batch", type=positive, nargs="+", default=[16, 64, 256, 512], help="default: 16 64 256 512")
    parser.add_argument("--size", type=positive, nargs="+", default=[224, 256], help="default: 224 256")
    parser.add_argument("--dtype", choices=DTYPES, nargs="+", default=list(DTYPES), help="default: all")
    parser.add_argument("--format", choices=FORMATS, nargs="+", default=list(FORMATS), help="default: both")
    parser.add_argument("--repeats", type=positive, default=30, help="measured rounds (default: %(default)s)")
    parser.add_resumable_json()
    options = parser.parse(arguments)
    if max(options.batch) > ROWS:
        parser.error(f"--batch may be {ROWS} at most, the number of samples in the store.")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write JSON if asked."""
    options = parse(arguments)
    device = device_of(options)
    run = Run("bandwidth", options, device, ("repeats",))
    for size in options.size:
        measure_size(run, options, size, device)
