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

import argparse
import copy
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffcore_gpu import CounterpartStore, DiffCoreMix, draw_plan
from diffcore_gpu.benchmarks.harness.measure import interleaved, summary, table
from diffcore_gpu.benchmarks.harness.options import SuiteParser, device_of, positive
from diffcore_gpu.benchmarks.harness.processes import shared
from diffcore_gpu.benchmarks.harness.random_data import DTYPES, FORMATS, MEAN, ROWS, STD, random_images, random_store
from diffcore_gpu.benchmarks.harness.rotation import Rotation, index_sets, of_the_calls, sets_for
from diffcore_gpu.benchmarks.harness.runs import Run
from diffcore_gpu.benchmarks.ops.kernel_tiles import Tile, own, relative_rates, split, tile, using
from diffcore_gpu.benchmarks.ops.peaks import peak_of
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


class Setup(NamedTuple):
    """What all cases of one size share."""

    store: CounterpartStore
    large: LargeCopy
    device: torch.device
    repeats: int
    tiles: Sequence[Tile]


def measure_case(setup: Setup, *, size: int, dtype: str, memory_format: str, batch: int) -> dict[str, Any]:
    """All kinds of mix, with every tile, and both copies, each over the same sets of images and rows."""
    device, repeats = setup.device, setup.repeats
    first = random_images(batch, size, dtype, memory_format, device)
    sets = sets_for(first.nbytes, device)
    images = [first, *(shuffled(first, by) for by in range(1, sets))]
    targets = [torch.empty_like(first) for _ in range(sets)]
    on_host = index_sets(batch, sets)
    index = [chosen.to(device) for chosen in on_host]
    actions: dict[str, Callable[[], object]] = {
        "copy": Rotation(lambda which: targets[which].copy_(images[which]), sets),
        "large copy": setup.large,
    }
    moved = {"copy": [2 * first.nbytes] * sets, "large copy": [2 * setup.large.size]}
    for kind, pixel_prob in KINDS.items():
        mix = DiffCoreMix(setup.store, pixel_prob=pixel_prob, mean=MEAN, std=STD).to(device)
        mix.set_epoch(0)  # the same plan of a set in every turn
        plans = [draw_plan(chosen, setup.store, height=size, width=size, pixel_prob=pixel_prob) for chosen in on_host]
        counts = [bytes_to_move(plan, setup.store.image_shape, first.element_size()) for plan in plans]
        # A mix keeps the launch of its first call: each tile has one of its own.
        mixes = {chosen: copy.deepcopy(mix) for chosen in setup.tiles or (None,)}
        check_tiles(mixes, images, index)
        for chosen_tile, own_mix in mixes.items():
            name = kind if chosen_tile is None else f"{kind} {chosen_tile}"
            actions[name] = Rotation(partial(mixed, own_mix, images, index, chosen_tile), sets)
            moved[name] = counts
    warmup = max(5, sets + 2)  # until every set has its output
    seconds = interleaved(actions, device=device, repeats=repeats, warmup=warmup, head_start=True)
    by_call = {name: of_the_calls(counts, warmup, repeats) for name, counts in moved.items()}
    peak = peak_of(torch.cuda.get_device_properties(device)) if device.type == "cuda" else None
    return {
        "sets": sets,
        "peak_gb_per_s": peak and peak[0],
        "peak_from": peak and peak[1],
        "bytes_of_calls": by_call,
        "cold_rates": rates_of(seconds, by_call, peak and peak[0]),
        "times": {name: summary(values) for name, values in seconds.items()},
    }


def measure_part(setup: Setup, part: Mapping[str, Any]) -> dict[str, Any]:
    """`measure_case` of what tells it from the others."""
    return measure_case(setup, **part)


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


def shape_of(case: Mapping[str, Any]) -> str:
    """What tells a case from the others."""
    return f"{case['batch']}×3×{case['size']}×{case['size']} {case['dtype']} {case['memory_format']}"


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


def compile_ahead(options: argparse.Namespace, device: torch.device) -> None:
    """Compile what will be launched in several processes, which share Triton's cache on disk with this one.

    On the CPU nothing is compiled, but the same is done, to rehearse it.
    """
    if options.compile_in == 1:
        return
    parts = [
        (size, dtype, memory_format, chosen, device.type)
        for size in options.size
        for dtype in options.dtype
        for memory_format in options.format
        for chosen in options.tiles or (None,)
    ]
    start = time.perf_counter()
    each = shared(compile_case, parts, options.compile_in)
    taken = f"{time.perf_counter() - start:.1f} s ({sum(each):.1f} s of work in {options.compile_in} processes)"
    print(f"{len(parts)} kernels compiled in {taken}\n")


def cases(options: argparse.Namespace, size: int) -> Iterator[dict[str, Any]]:
    """The cases of one size."""
    for dtype in options.dtype:
        for memory_format in options.format:
            for batch in options.batch:
                yield {"size": size, "dtype": dtype, "memory_format": memory_format, "batch": batch}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = SuiteParser("bandwidth", __doc__)
    parser.add_device("cuda")
    parser.add_argument("--batch", type=positive, nargs="+", default=[16, 64, 256, 512], help="default: 16 64 256 512")
    parser.add_argument("--size", type=positive, nargs="+", default=[224, 256], help="default: 224 256")
    parser.add_argument("--dtype", choices=DTYPES, nargs="+", default=list(DTYPES), help="default: all")
    parser.add_argument("--format", choices=FORMATS, nargs="+", default=list(FORMATS), help="default: both")
    parser.add_argument("--repeats", type=positive, default=30, help="measured rounds (default: %(default)s)")
    parser.add_argument("--tiles", type=tile, nargs="+", default=[], metavar="PIXELS:WARPS", help="compare these")
    parser.add_argument("--compile-in", type=positive, default=1, help="processes that compile (default: %(default)s)")
    parser.add_resumable_json()
    options = parser.parse(arguments)
    if max(options.batch) > ROWS:
        parser.error(f"--batch may be {ROWS} at most, the number of samples in the store.")
    if options.repeats < 2:
        parser.error("--repeats must be 2 or more, so that there is a spread.")
    if options.tiles:
        options.tiles = list(dict.fromkeys([own(), *options.tiles]))
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write JSON if asked."""
    options = parse(arguments)
    device = device_of(options)
    tiles = [str(chosen) for chosen in options.tiles]
    run = Run("bandwidth", options, device, {"repeats": options.repeats, "caches": "cold", "tiles": tiles})
    compile_ahead(options, device)
    large = LargeCopy(device)
    for size in options.size:
        with tempfile.TemporaryDirectory() as folder:
            store = random_store(Path(folder) / "store", size)
            setup = Setup(store, large, device, options.repeats, options.tiles)
            run.do(list(cases(options, size)), partial(measure_part, setup), report)
    print(overview(run.result))
    if tiles:
        ratios = relative_rates(run.result, tiles[0])
        print(
            f"\nRate over that of {tiles[0]}, the kernels' own: "
            + ", ".join(f"{k} ×{v:.3f}" for k, v in ratios.items())
        )
