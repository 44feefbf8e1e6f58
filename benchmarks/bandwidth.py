"""How close the mix on a GPU comes to the card's own copy: bytes that must move, over time, over the copy's rate.

Every dtype × memory format × batch × size, with pixels alone, patches alone and the defaults, and in the same turns a
device-to-device copy of the same batch and one of 256 MiB. Counted are only bytes that must move, as kernels/mix.py
defines them; each plan is fixed, so the count is exact. The time is that of the device alone: the host has queued the
call before it begins.

    python benchmarks/bandwidth.py --json benchmarks/results/DEVICE/bandwidth.json
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measure import environment, interleaved, need_gpu, summary, table, write_json
from random_data import DTYPES, FORMATS, MEAN, ROWS, STD, random_images, random_store

from diffcore_gpu import CounterpartStore, DiffCoreMix, MixPlan

KINDS = {"pixel": 1.0, "patch": 0.0, "default": 0.5}
LARGE_COPY = 256 << 20
"""Bytes of the large copy: far more than any cache."""


def bytes_that_must_move(plan: MixPlan, channels: int, height: int, width: int, itemsize: int) -> int:
    """Bytes that the mix must read and write, out of place, for a plan and images of `itemsize` bytes per value.

    Per value: real + 1 (counterpart) + output where both mix; one of the two + output where one shows; real + output
    where there is no counterpart.
    """
    top, left, bottom, right = plan.box.to(torch.int64).unbind(1)
    box = (bottom - top).clamp(min=0) * (right - left).clamp(min=0)
    pixels = height * width
    shown_real = torch.where(plan.inside_real, box, pixels - box)
    lam = plan.lam
    shown_real = torch.where(plan.pixel, torch.where(lam >= 1, pixels, 0), shown_real)
    read = shown_real * itemsize + (pixels - shown_real)
    read = torch.where(plan.pixel & (lam > 0) & (lam < 1), pixels * (itemsize + 1), read)
    read = torch.where(plan.row < 0, pixels * itemsize, read)
    return int((read + pixels * itemsize).sum()) * channels


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
    store: CounterpartStore, size: int, batch: int, dtype: str, memory_format: str, device: torch.device, repeats: int
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
        moved[kind] = bytes_that_must_move(plan, *images.shape[1:], images.element_size())
        actions[kind] = lambda mix=mix: mix(images, index)
    seconds = interleaved(actions, device=device, repeats=repeats, head_start=True)
    times = {name: summary(values) for name, values in seconds.items()}
    return {
        "batch": batch,
        "size": size,
        "dtype": dtype,
        "memory_format": memory_format,
        "bytes": moved,
        "rates": fractions(times, moved),
        "times": times,
    }


def report(cases: list[dict[str, Any]]) -> str:
    """One line for each case: time, and share of the copy of the same batch and of the large copy."""
    header = ["dtype, format, size, batch"]
    for kind in KINDS:
        header += [f"{kind} µs", "of copy", "of large"]
    header += ["copy GB/s", "large GB/s"]
    rows = []
    for case in cases:
        row = [f"{case['dtype']} {case['memory_format']} {case['size']} {case['batch']}"]
        for kind in KINDS:
            rate = case["rates"][kind]
            row += [
                f"{case['times'][kind]['median_ms'] * 1e3:.1f}",
                f"{rate['of_copy']:.2f}",
                f"{rate['of_large_copy']:.2f}",
            ]
        row += [f"{case['rates'][name]['gb_per_s']:.0f}" for name in ("copy", "large copy")]
        rows.append(row)
    return table(header, rows)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[16, 64, 256, 512], help="default: %(default)s")
    parser.add_argument("--size", type=int, nargs="+", default=[224, 256], help="default: %(default)s")
    parser.add_argument("--dtype", choices=DTYPES, nargs="+", default=list(DTYPES), help="default: %(default)s")
    parser.add_argument("--format", choices=FORMATS, nargs="+", default=list(FORMATS), help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=30, help="measured rounds (default: %(default)s)")
    parser.add_argument("--json", type=Path, default=None, help="also write figures and samples here")
    options = parser.parse_args()
    if max(options.batch) > ROWS:
        parser.error(f"--batch may be {ROWS} at most, the number of samples in the store.")
    return options


def main() -> None:
    """Measure, print, and write JSON if asked."""
    options = parse()
    device = need_gpu("bandwidth.py")
    result: dict[str, Any] = {"environment": environment(device), "cases": []}
    for size in options.size:
        with tempfile.TemporaryDirectory() as folder:
            store = random_store(Path(folder) / "store", size)
            for dtype in options.dtype:
                for memory_format in options.format:
                    result["cases"] += [
                        measure_case(store, size, batch, dtype, memory_format, device, options.repeats)
                        for batch in options.batch
                    ]
                    if options.json is not None:  # each time, so that a run that is cut off leaves what it has
                        write_json(options.json, result)
    print(report(result["cases"]))


if __name__ == "__main__":
    main()
