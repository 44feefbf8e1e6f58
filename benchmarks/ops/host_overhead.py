"""What one eager call of `DiffCoreMix` costs the host, beside what a launch and an operator cost anyway.

On a GPU the host only queues work, so the clock stops when the call returns, and the device is waited for in between.
On a machine without one, a driver stands in that launches nothing: then the time in the driver is missing, and the rest
is the same code. Compared in the same run, taking turns: "torch.empty_like", which the call contains; "bare launch", of
a kernel with five arguments through Triton; "library call", of a torch.library operator with two; and "operator", the
mix through the dispatcher and Triton, as the first call of every kind takes it.

    diffcore bench host-overhead --device cuda --json benchmarks/results/DEVICE/host_overhead.json
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
import typer
from torch import Tensor

from diffcore_gpu import DiffCoreMix
from diffcore_gpu.benchmarks.harness import options
from diffcore_gpu.benchmarks.harness.command import output_of
from diffcore_gpu.benchmarks.harness.measure import table
from diffcore_gpu.benchmarks.harness.random_data import MEAN, STD
from diffcore_gpu.benchmarks.harness.runs import Run
from diffcore_gpu.benchmarks.ops.registry import HOST_OVERHEAD
from diffcore_gpu.benchmarks.ops.runner import Case, run_op, summaries
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


def measure(case: Case) -> dict[str, Any]:
    """The actions at one batch size."""
    stand_in = case.device.type == "cpu"
    with stand_in_driver() if stand_in else contextlib.nullcontext():
        # On the CPU the rows lie in one piece, as on a GPU.
        mix = DiffCoreMix(case.store, mean=MEAN, std=STD, residency="device").to(case.device)
        found = actions(mix, case.images(), case.index(), stand_in=stand_in)
        seconds = case.seconds({name: _repeated(action) for name, action in found.items()})
    return {
        "driver": "stand-in" if stand_in else "real",
        "times": summaries(seconds, CALLS),
        "call_over_bare_launch": ratios(seconds),
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


def main(
    context: typer.Context,
    device: options.Device = HOST_OVERHEAD.device,
    batch: options.BatchSizes = HOST_OVERHEAD.batch,
    size: options.Size = HOST_OVERHEAD.size[0],
    dtype: options.Dtype = HOST_OVERHEAD.dtype[0],
    memory_format: options.Format = HOST_OVERHEAD.memory_format[0],
    repeats: options.Repeats = HOST_OVERHEAD.repeats,
    json: options.ResumableJson = None,
    budget_minutes: options.BudgetMinutes = None,
) -> None:
    """Measure, print, and write JSON if asked."""
    setting = {"size": size, "dtype": dtype, "format": memory_format, "repeats": repeats}
    output = output_of(context, json, budget_minutes)
    run = Run("host-overhead", output, options.device_of(device), setting, HOST_OVERHEAD.packages)
    op = replace(HOST_OVERHEAD, batch=batch, size=[size], dtype=[dtype], memory_format=[memory_format], repeats=repeats)
    run_op(run, op, measure, report)
