"""What one eager call of `DiffCoreMix` costs the host, beside what a launch and an operator cost anyway.

On a GPU the host only queues work, so the clock stops when the call returns, and the device is waited for in between.
On a machine without one, a driver stands in that launches nothing: then the time in the driver is missing, and the rest
is the same code. Compared in the same run, taking turns: "torch.empty_like", which the call contains; "bare launch", of
a kernel with five arguments through Triton; "library call", of a torch.library operator with two; and "operator", the
mix through the dispatcher and Triton, as the first call of every kind takes it.

    diffcore bench host-overhead --device cuda --json benchmarks/results/DEVICE/host_overhead.json
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from diffcore_gpu import DiffCoreMix
from diffcore_gpu.benchmarks.harness.measure import interleaved, summary, table
from diffcore_gpu.benchmarks.harness.options import SuiteParser, device_of, positive
from diffcore_gpu.benchmarks.harness.random_data import DTYPES, FORMATS, MEAN, ROWS, STD, random_images, random_store
from diffcore_gpu.benchmarks.harness.runs import Run
from diffcore_gpu.benchmarks.ops.stand_in import launch_on_stand_in, stand_in_driver
from diffcore_gpu.kernels import launch_mix_store

CALLS = 20
"""Calls of a sample: one alone would be lost in the resolution of the clock and its own cost."""


@triton.jit
def _bare(a, b, c, d, number):  # type: ignore[no-untyped-def]
    """A kernel with five arguments."""
    tl.store(a + tl.program_id(0), tl.load(b) + tl.load(c) + tl.load(d) + number)


@cache
def _library() -> torch.library.Library:
    """An operator with two arguments that does nothing."""
    library = torch.library.Library("diffcore_bench", "DEF")
    library.define("nothing(Tensor a, Tensor b) -> ()")
    library.impl("nothing", lambda a, b: None, "CPU")
    library.impl("nothing", lambda a, b: None, "CUDA")
    return library


def actions(mix: DiffCoreMix, images: Tensor, index: Tensor, *, stand_in: bool) -> dict[str, Callable[[], object]]:
    """What is measured, by name; with a stand-in, inside of `stand_in_driver`."""
    _library()
    nothing = torch.ops.diffcore_bench.nothing.default
    pointers = [torch.zeros(1, dtype=torch.int32, device=images.device) for _ in range(4)]
    arguments = images, index, None, mix.round, mix.status, mix.counts_rounds
    drawn = mix._op.source.arguments(*arguments[1:]).for_kernel()
    out = torch.empty_like(images)
    if stand_in:
        launch_on_stand_in(mix, images, index)
    mix(images, index)
    assert mix._eager is not None
    run = mix._eager._run
    found: dict[str, Callable[[], object]] = {
        "call": lambda: mix(images, index),
        "kept launch": lambda: run(images, out, index, None, mix.round, mix.status),
        "torch.empty_like": lambda: torch.empty_like(images),
        "bare launch": lambda: _bare[(1,)](*pointers, 1),
        "launch of the mix through Triton": lambda: launch_mix_store(images, out, drawn),
        "library call": lambda: nothing(images, index),
    }
    if not stand_in:
        found["operator"] = lambda: mix._op(*arguments)
    return found


def ratios(seconds: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """The call over the bare launch, round by round: median and quartiles."""
    found = sorted(call / bare for call, bare in zip(seconds["call"], seconds["bare launch"], strict=True))
    low, median, high = statistics.quantiles(found, n=4)
    return {"median": median, "quartiles": [low, high]}


def _repeated(action: Callable[[], object]) -> Callable[[], object]:
    def repeat() -> None:
        for _ in range(CALLS):
            action()

    return repeat


def measure(options: argparse.Namespace, device: torch.device, batch: int) -> dict[str, Any]:
    """The actions at one batch size."""
    stand_in = device.type == "cpu"
    with tempfile.TemporaryDirectory() as folder, stand_in_driver() if stand_in else contextlib.nullcontext():
        store = random_store(Path(folder) / "store", options.size)
        # On the CPU the rows lie in one piece, as on a GPU.
        mix = DiffCoreMix(store, mean=MEAN, std=STD, residency="device").to(device)
        images = random_images(batch, options.size, options.dtype, options.format, device)
        index = torch.arange(batch, device=device) % ROWS
        seconds = interleaved(
            {name: _repeated(action) for name, action in actions(mix, images, index, stand_in=stand_in).items()},
            device=torch.device("cpu"),  # the host's clock, also on a GPU
            repeats=options.repeats,
            warmup=20,
            prepare=torch.cuda.synchronize if device.type == "cuda" else None,
        )
    per_call = {name: [value / CALLS for value in values] for name, values in seconds.items()}
    return {
        "driver": "stand-in" if stand_in else "real",
        "times": {name: summary(values) for name, values in per_call.items()},
        "call_over_bare_launch": ratios(per_call),
    }


def report(result: Mapping[str, Any]) -> str:
    """What each action takes the host, and the ratio to follow."""
    rows = [
        (name, f"{time['median_ms'] * 1e3:.1f}", f"{min(time['samples_ms']) * 1e3:.1f}")
        for name, time in result["times"].items()
    ]
    driver = "a driver that stands in for a GPU's" if result["driver"] == "stand-in" else "the GPU's driver"
    ratio = result["call_over_bare_launch"]
    low, high = ratio["quartiles"]
    return (
        table((f"host time of one call, batch {result['batch']}, {driver}", "median µs", "least µs"), rows)
        + f"\nthe call takes {ratio['median']:.2f} of a bare launch (quartiles {low:.2f} to {high:.2f})"
    )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = SuiteParser("host-overhead", __doc__)
    parser.add_device("cuda")
    parser.add_argument("--batch", type=positive, nargs="+", default=[16], help="default: 16")
    parser.add_argument("--size", type=positive, default=224, help="height and width (default: %(default)s)")
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16", help="default: %(default)s")
    parser.add_argument("--format", choices=FORMATS, default="contiguous", help="default: %(default)s")
    parser.add_argument("--repeats", type=positive, default=200, help="measured rounds (default: %(default)s)")
    parser.add_resumable_json()
    return parser.parse(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write JSON if asked."""
    options = parse(arguments)
    device = device_of(options)
    run = Run("host-overhead", options, device, ("size", "dtype", "format", "repeats"), ("triton",))
    batches = [{"batch": batch} for batch in options.batch]
    run.do(batches, lambda part: measure(options, device, part["batch"]), report)
