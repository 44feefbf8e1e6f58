"""What the benchmarks share: timing by turns, what a run ran on, tables and JSON.

Actions that are compared take turns, so that another load on the machine falls on all of them, and every sample is
kept, so that a reader can judge the spread.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

HEAD_START_CYCLES = 2_000_000
"""Clock cycles (about a millisecond) that a GPU waits, so that the host has queued an action before it begins."""


def interleaved(
    actions: Mapping[str, Callable[[], object]],
    *,
    device: torch.device,
    repeats: int,
    warmup: int = 5,
    prepare: Callable[[], object] | None = None,
    head_start: bool = False,
) -> dict[str, list[float]]:
    """Seconds of each of `repeats` calls of every action, taking turns.

    Args:
        actions: what is measured, by name. What an action returns is freed outside of the measured time.
        device: where the actions run. On the CPU a clock is read before and after; on a GPU events are recorded before
            and after, and the device is waited for.
        repeats: measured rounds.
        warmup: rounds that are not measured.
        prepare: called before every action, not measured.
        head_start: on a GPU, keep the device busy until the host has queued the whole action: what is measured then is
            the time of the device alone, without gaps in which it waits for the host. The actions must not wait for
            the device themselves.
    """
    measure = _gpu_seconds if device.type == "cuda" else _cpu_seconds
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for repeat in range(-warmup, repeats):
        for name, action in actions.items():
            if prepare is not None:
                prepare()
            elapsed = measure(action, head_start)
            if repeat >= 0:
                seconds[name].append(elapsed)
    return seconds


def _cpu_seconds(action: Callable[[], object], _: bool) -> float:
    start = time.perf_counter()
    result = action()
    elapsed = time.perf_counter() - start
    del result  # after the clock: freeing is not part of the action
    return elapsed


def _gpu_seconds(action: Callable[[], object], head_start: bool) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    if head_start:
        torch.cuda._sleep(HEAD_START_CYCLES)
    start.record()
    result = action()
    end.record()
    torch.cuda.synchronize()
    del result
    return start.elapsed_time(end) / 1e3


def summary(seconds: Sequence[float]) -> dict[str, Any]:
    """Median, 10th and 90th percentile in milliseconds, and the samples behind them.

    Args:
        seconds: two samples or more.
    """
    tenths = statistics.quantiles(seconds, n=10, method="inclusive")
    return {
        "median_ms": statistics.median(seconds) * 1e3,
        "p10_ms": tenths[0] * 1e3,
        "p90_ms": tenths[-1] * 1e3,
        "samples_ms": [round(value * 1e3, 5) for value in seconds],
    }


def within_noise(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two summaries differ by no more than their spread: each median lies within the other's p10 to p90."""
    return (
        one["p10_ms"] <= other["median_ms"] <= one["p90_ms"] and other["p10_ms"] <= one["median_ms"] <= other["p90_ms"]
    )


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def version_of(package: str) -> str | None:
    """The installed version of a package, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def environment(device: torch.device, packages: Sequence[str] = ()) -> dict[str, Any]:
    """What a result was measured on: command line, processor, GPU, threads, load, and versions of the packages."""
    on_gpu = device.type == "cuda"
    properties = torch.cuda.get_device_properties(device) if on_gpu else None
    command = ["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]  # no path of the machine
    return {
        "command": " ".join(command),
        "device": device.type,
        "cpu": cpu_name(),
        "cpus": os.cpu_count(),
        "gpu": properties.name if properties else None,
        "gpu_memory_bytes": properties.total_memory if properties else None,
        "cuda": torch.version.cuda if on_gpu else None,
        "threads": torch.get_num_threads(),
        "load_at_start": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {name: version_of(name) for name in ("torch", "triton", "numpy", *packages)},
    }


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain-text table: first column to the left, the others to the right."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join([first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))])
        for first, *rest in lines
    )


def write_json(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result, lists of numbers on one line each; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_encode(result, "") + "\n")


def _encode(value: Any, indent: str) -> str:
    if isinstance(value, Mapping) and value:
        inner = indent + " "
        lines = (f"{inner}{json.dumps(key, ensure_ascii=False)}: {_encode(v, inner)}" for key, v in value.items())
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        inner = indent + " "
        return "[\n" + ",\n".join(inner + _encode(item, inner) for item in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False)


def need_gpu(program: str) -> torch.device:
    """The current CUDA or ROCm device, or a plain sentence and exit code 1."""
    if not torch.cuda.is_available():
        sys.exit(f"{program} measures a GPU, and torch finds none here.")
    return torch.device("cuda", torch.cuda.current_device())
