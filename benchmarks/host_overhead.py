"""What one eager call of `DiffCoreMix` costs the host, and where: module, checks, operator, allocation, launch, state.

On a GPU the host only queues work, so the clock stops when the call returns, and the device is waited for in between.
On the CPU the same parts are measured without the launch; there the operator contains the mix itself.

    diffcore bench host-overhead --device cuda --json benchmarks/results/DEVICE/host_overhead.json
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from diffcore_gpu import DiffCoreMix
from diffcore_gpu.benchmarks.arguments import SuiteParser, device_of, positive
from diffcore_gpu.benchmarks.measure import interleaved, summary, table
from diffcore_gpu.benchmarks.random_data import DTYPES, FORMATS, MEAN, ROWS, STD, random_images, random_store
from diffcore_gpu.benchmarks.runs import Run
from diffcore_gpu.ops.mix import op as mixing
from diffcore_gpu.ops.runtime.drawing import DrawArguments


class Recorder(TorchDispatchMode):
    """Remembers the operator of this library that was called, and its arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.operator: Callable[..., Any] | None = None
        self.arguments: tuple[Any, ...] = ()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Note the call and go on with it."""
        if func.namespace == "diffcore":
            self.operator, self.arguments = func, args
        return func(*args, **(kwargs or {}))


def parts(mix: DiffCoreMix, images: Tensor, index: Tensor) -> dict[str, Callable[[], object]]:
    """The call and what it consists of, each to be measured by itself."""
    with Recorder() as recorder:
        mix(images, index)
    operator, arguments = recorder.operator, recorder.arguments
    if operator is None:
        raise RuntimeError("the call reached no operator of diffcore-gpu.")
    on_gpu = images.is_cuda
    implementation = mixing._mix_store_cuda if on_gpu else mixing._mix_store_cpu
    actions: dict[str, Callable[[], object]] = {
        "call": lambda: mix(images, index),
        "checks": lambda: mix._check(images, index, None),
        "operator": lambda: operator(*arguments),
        "implementation": lambda: implementation(*arguments),
        "allocation": lambda: torch.empty_like(images),
    }
    if on_gpu:
        moving, out = DrawArguments(*arguments[1:])._replace(advance=True), torch.empty_like(images)
        still = moving._replace(advance=False)
        actions["launch"] = lambda: mixing._run_triton(images, out, still)
        actions["launch and state"] = lambda: mixing._run_triton(images, out, moving)
    return actions


def breakdown(median: Mapping[str, float]) -> dict[str, float]:
    """What each part adds to the call, from the medians of `parts`, in their unit; differences may be noise."""
    rows = {
        "module": median["call"] - median["operator"] - median["checks"],
        "checks": median["checks"],
        "operator dispatch": median["operator"] - median["implementation"],
        "allocation": median["allocation"],
    }
    if "launch" in median:
        rows["launch"] = median["launch"]
        rows["state"] = median["launch and state"] - median["launch"]
    else:
        rows["plan and mix"] = median["implementation"] - median["allocation"]
    rows["call"] = median["call"]
    return rows


def measure(options: argparse.Namespace, device: torch.device, batch: int) -> dict[str, Any]:
    """The parts of one call at one batch size."""
    with tempfile.TemporaryDirectory() as folder:
        store = random_store(Path(folder) / "store", options.size)
        mix = DiffCoreMix(store, mean=MEAN, std=STD).to(device)
        images = random_images(batch, options.size, options.dtype, options.format, device)
        index = torch.arange(batch, device=device) % ROWS
        seconds = interleaved(
            parts(mix, images, index),
            device=torch.device("cpu"),  # the host's clock, also on a GPU
            repeats=options.repeats,
            warmup=20,
            prepare=torch.cuda.synchronize if device.type == "cuda" else None,
        )
    times = {name: summary(values) for name, values in seconds.items()}
    rows = breakdown({name: time["median_ms"] * 1e3 for name, time in times.items()})
    return {"breakdown_us": rows, "times": times}


def report(result: Mapping[str, Any]) -> str:
    """What each part of the call adds."""
    rows = [(name, f"{value:.1f}") for name, value in result["breakdown_us"].items()]
    return table((f"host time of one call, batch {result['batch']}", "µs"), rows)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = SuiteParser("host-overhead", __doc__)
    parser.add_device("cuda")
    parser.add_argument("--batch", type=positive, nargs="+", default=[16], help="default: 16")
    parser.add_argument("--size", type=positive, default=224, help="height and width (default: %(default)s)")
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16", help="default: %(default)s")
    parser.add_argument("--format", choices=FORMATS, default="contiguous", help="default: %(default)s")
    parser.add_argument("--repeats", type=positive, default=500, help="measured rounds (default: %(default)s)")
    parser.add_resumable_json()
    return parser.parse(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write JSON if asked."""
    options = parse(arguments)
    device = device_of(options)
    run = Run("host-overhead", options, device, ("size", "dtype", "format", "repeats"))
    batches = [{"batch": batch} for batch in options.batch]
    run.do(batches, lambda part: measure(options, device, part["batch"]), report)
