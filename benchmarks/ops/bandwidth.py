"""How close the mix comes to the device's own copy: bytes that must move, over time, over the copy's rate.

Every dtype × memory format × batch × size, with pixels alone, patches alone and the defaults, and in the same turns a
device-to-device copy of the same batch and one of 256 MiB of random bytes. Every call takes the next of several sets of
images, outputs and rows, which fill the last-level cache twice, so that nothing is found there that a training loop
would not find. Counted are only bytes that must move, as kernels/mix.py defines them, exactly for each plan, which is
fixed by the epoch. The time is that of the device alone: the host has queued the call before it begins. Each rate is
also told as a share of the peak in the GPU's data sheet, where that is known.

    diffcore bench bandwidth --json benchmarks/results/DEVICE/bandwidth.json
    diffcore bench bandwidth --tiles 8192:4 8192:8 4096:4 4096:2 --compile-in 12 --json variants.json

With --tiles the mix is also launched with so many pixels and warps for each program, beside the kernels' own choice.
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from diffcore_gpu import DiffCoreMix, draw_plan
from diffcore_gpu.benchmarks.harness import options
from diffcore_gpu.benchmarks.harness.command import output_of
from diffcore_gpu.benchmarks.harness.measure import table
from diffcore_gpu.benchmarks.harness.processes import shared
from diffcore_gpu.benchmarks.harness.random_data import MEAN, ROWS, STD, random_images, random_store
from diffcore_gpu.benchmarks.harness.rotation import Rotation, index_sets, of_the_calls, sets_for
from diffcore_gpu.benchmarks.harness.runs import Run
from diffcore_gpu.benchmarks.ops.kernel_tiles import Tile, own, relative_rates, split, tile, using
from diffcore_gpu.benchmarks.ops.peaks import peak_of
from diffcore_gpu.benchmarks.ops.registry import BANDWIDTH
from diffcore_gpu.benchmarks.ops.runner import Case, run_op, summaries
from diffcore_gpu.benchmarks.reporting.tables import shape_of
from diffcore_gpu.errors import BenchmarkError
from diffcore_gpu.profiling import bytes_to_move

KINDS = {"pixel": 1.0, "patch": 0.0, "default": 0.5}
LARGE_COPY = {"cuda": 256 << 20, "cpu": 8 << 20}
"""Bytes of the large copy: on a GPU far more than any cache."""


def rates_of(
    seconds: Mapping[str, Sequence[float]], moved: Mapping[str, Sequence[int]], peak: float | None
) -> dict[str, dict[str, float | None]]:
    """Rate in GB/s of each action, the median over its calls, and its share of the two copies' rates and of the peak.

    Args:
        seconds: of the calls of each action; among them "copy" and "large copy".
        moved: bytes that each of these calls moves.
        peak: GB/s of the device's memory by its data sheet, if known.
    """
    rates = {
        name: median(count / taken / 1e9 for count, taken in zip(moved[name], seconds[name], strict=True))
        for name in seconds
    }
    return {
        name: {
            "gb_per_s": rate,
            "of_copy": rate / rates["copy"],
            "of_large_copy": rate / rates["large copy"],
            "of_peak": None if peak is None else rate / peak,
        }
        for name, rate in rates.items()
    }


class LargeCopy:
    """A copy from one large buffer of random bytes to another.

    Args:
        device: where they lie.
    """

    def __init__(self, device: torch.device) -> None:
        self.size = LARGE_COPY[device.type]
        generator = torch.Generator(device).manual_seed(0)
        self._from, self._to = (
            torch.randint(0, 256, (self.size,), dtype=torch.uint8, device=device, generator=generator) for _ in range(2)
        )

    def __call__(self) -> None:
        """Copy."""
        self._to.copy_(self._from)


def measure(case: Case, large: LargeCopy, tiles: Sequence[Tile]) -> dict[str, Any]:
    """All kinds of mix, with every tile, and both copies, each over the same sets of images and rows."""
    device, store, size = case.device, case.store, case.size
    first = case.images()
    sets = sets_for(first.nbytes, device)
    images = [first, *(shuffled(first, by) for by in range(1, sets))]
    targets = [torch.empty_like(first) for _ in range(sets)]
    on_host = index_sets(case.batch, sets)
    index = [chosen.to(device) for chosen in on_host]
    actions: dict[str, Callable[[], object]] = {
        "copy": Rotation(lambda which: targets[which].copy_(images[which]), sets),
        "large copy": large,
    }
    moved = {"copy": [2 * first.nbytes] * sets, "large copy": [2 * large.size]}
    for kind, pixel_prob in KINDS.items():
        mix = DiffCoreMix(store, pixel_prob=pixel_prob, mean=MEAN, std=STD).to(device)
        mix.set_epoch(0)  # the same plan of a set in every turn
        plans = [draw_plan(chosen, store, height=size, width=size, pixel_prob=pixel_prob) for chosen in on_host]
        counts = [bytes_to_move(plan, store.image_shape, first.element_size()) for plan in plans]
        # A mix keeps the launch of its first call: each tile has one of its own.
        mixes = {chosen: copy.deepcopy(mix) for chosen in tiles or (None,)}
        check_tiles(mixes, images, index)
        for chosen_tile, own_mix in mixes.items():
            name = kind if chosen_tile is None else f"{kind} {chosen_tile}"
            actions[name] = Rotation(partial(mixed, own_mix, images, index, chosen_tile), sets)
            moved[name] = counts
    warmup = max(5, sets + 2)  # until every set has its output
    seconds = case.seconds(actions, warmup=warmup)
    by_call = {name: of_the_calls(counts, warmup, case.op.repeats) for name, counts in moved.items()}
    peak = peak_of(torch.cuda.get_device_properties(device)) if device.type == "cuda" else None
    return {
        "sets": sets,
        "peak_gb_per_s": peak and peak[0],
        "peak_from": peak and peak[1],
        "bytes_of_calls": by_call,
        "cold_rates": rates_of(seconds, by_call, peak and peak[0]),
        "times": summaries(seconds),
    }


def shuffled(images: Tensor, by: int) -> Tensor:
    """Other images of the same kind, in memory of their own: those given, moved on by some places and turned over."""
    return images.roll(by, 0).flip(-1 if by % 2 else -2).contiguous(memory_format=_format_of(images))


def _format_of(images: Tensor) -> torch.memory_format:
    return torch.contiguous_format if images.is_contiguous() else torch.channels_last


def mixed(
    mix: DiffCoreMix, images: Sequence[Tensor], index: Sequence[Tensor], chosen: Tile | None, which: int
) -> Tensor:
    """One of the sets, mixed, by a launch with the tile that is chosen."""
    with using(chosen):
        result: Tensor = mix(images[which], index[which])
    return result


def check_tiles(mixes: Mapping[Tile | None, DiffCoreMix], images: Sequence[Tensor], index: Sequence[Tensor]) -> None:
    """Refuse to measure tiles that do not give the same images, bit for bit.

    Raises:
        BenchmarkError: one does not.
    """
    results = {chosen: mixed(mix, images, index, chosen, 0) for chosen, mix in mixes.items()}
    (own_tile, expected), *others = results.items()
    for other, found in others:
        if not torch.equal(found, expected):
            raise BenchmarkError(f"the tile {other} gives other images than {own_tile}, the kernels' own.")


def report(case: Mapping[str, Any]) -> str:
    """Time and rate of each action, and its share of the copy of a batch, of the large copy and of the peak."""
    rows = [
        (
            name,
            f"{case['times'][name]['median_ms'] * 1e3:.1f}",
            f"{rate['gb_per_s']:.0f}",
            f"{rate['of_copy']:.2f}",
            f"{rate['of_large_copy']:.2f}",
            _share(rate["of_peak"]),
        )
        for name, rate in case["cold_rates"].items()
    ]
    title = f"{shape_of(case)}, {case['sets']} sets"
    return table((title, "µs", "GB/s", "of copy", "of large copy", "of peak"), rows)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def overview(result: Mapping[str, Any]) -> str:
    """A line for each case: the share of the large copy (of the peak) of each kind, at its fastest tile if several."""
    rows = []
    for case in result["results"]:
        rates = case["cold_rates"]
        cells = [f"{rates['large copy']['gb_per_s']:.0f}", f"{rates['copy']['of_large_copy']:.2f}"]
        for kind in KINDS:
            names = [name for name in rates if split(name)[0] == kind]
            fastest = max(names, key=lambda name: rates[name]["gb_per_s"], default=None)
            if fastest is None:
                cells.append("–")
                continue
            rate, written = rates[fastest], split(fastest)[1]
            cells.append(f"{rate['of_large_copy']:.2f} ({_share(rate['of_peak'])}){written and ' ' + written}")
        rows.append((shape_of(case), *cells))
    return table(("of large copy (of peak)", "large copy, GB/s", "copy", *KINDS), rows)


def compile_case(part: tuple[int, str, str, Tile | None, str]) -> float:
    """Compile the kernel that a case launches, by launching it on two images; the seconds that this took."""
    size, dtype, memory_format, chosen, device_type = part
    start = time.perf_counter()
    device = torch.device(device_type)
    with tempfile.TemporaryDirectory() as folder:
        mix = DiffCoreMix(random_store(Path(folder) / "store", size, rows=2), mean=MEAN, std=STD).to(device)
        mix.set_epoch(0)
        with using(chosen):
            mix(random_images(2, size, dtype, memory_format, device), torch.arange(2, device=device))
        if device.type == "cuda":
            torch.cuda.synchronize()
    return time.perf_counter() - start


def compile_ahead(cases: Sequence[tuple[int, str, str, Tile | None]], device: torch.device, processes: int) -> None:
    """Compile what will be launched in several processes, which share Triton's cache on disk with this one.

    On the CPU nothing is compiled, but the same is done, to rehearse it.

    Args:
        cases: sizes, dtypes, memory formats and tiles.
        device: that launches.
        processes: 1: nothing is compiled ahead.
    """
    if processes == 1:
        return
    start = time.perf_counter()
    each = shared(compile_case, [(*case, device.type) for case in cases], processes)
    taken = f"{time.perf_counter() - start:.1f} s ({sum(each):.1f} s of work in {processes} processes)"
    print(f"{len(cases)} kernels compiled in {taken}\n")


def main(
    context: typer.Context,
    device: options.Device = BANDWIDTH.device,
    batch: options.BatchSizes = BANDWIDTH.batch,
    size: options.Sizes = BANDWIDTH.size,
    dtype: options.Dtypes = BANDWIDTH.dtype,
    memory_format: options.Formats = BANDWIDTH.memory_format,
    repeats: options.Spread = BANDWIDTH.repeats,
    tiles: Annotated[list[Tile] | None, options.option("--tiles", "Compare these.", "PIXELS:WARPS", tile)] = None,
    compile_in: Annotated[int, options.number("--compile-in", "Processes that compile.")] = 1,
    json: options.ResumableJson = None,
    budget_minutes: options.BudgetMinutes = None,
) -> None:
    """Measure, print, and write JSON if asked."""
    if max(batch) > ROWS:
        raise typer.BadParameter(f"--batch may be {ROWS} at most, the number of samples in the store.")
    where = options.device_of(device)
    compared = list(dict.fromkeys([own(), *tiles])) if tiles else []
    names = [str(chosen) for chosen in compared]
    setting = {"repeats": repeats, "caches": "cold", "tiles": names}
    run = Run("bandwidth", output_of(context, json, budget_minutes), where, setting)
    compile_ahead(list(product(size, dtype, memory_format, compared or (None,))), where, compile_in)
    measured = partial(measure, large=LargeCopy(where), tiles=compared)
    op = replace(BANDWIDTH, batch=batch, size=size, dtype=dtype, memory_format=memory_format, repeats=repeats)
    result = run_op(run, op, measured, report)
    with run.reading():
        lines, ratios = overview(result), relative_rates(result, names[0]) if names else {}
    print(lines)
    if names:
        print(
            f"\nRate over that of {names[0]}, the kernels' own: "
            + ", ".join(f"{k} ×{v:.3f}" for k, v in ratios.items())
        )
