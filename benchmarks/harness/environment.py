"""What a result was measured on."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

BUSY = 0.3
"""Load for each processor above which other programs take a share of what is measured."""
_GPU_CLOCKS = ("clocks.sm", "clocks.max.sm", "clocks.mem", "clocks.max.mem", "power.limit", "temperature.gpu")


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


def clocks(device: torch.device) -> dict[str, Any]:
    """Clocks as they are found now: MHz of each CPU and, on a GPU, what its driver's tool tells; None: not told."""
    found: dict[str, Any] = {"cpu_mhz": _cpu_mhz()}
    if device.type == "cuda":
        found["gpu"] = _gpu_clocks(device)
    return found


def _cpu_mhz() -> list[float] | None:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    mhz = [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]
    return mhz or None


def _gpu_clocks(device: torch.device) -> dict[str, str] | None:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    which = [] if uuid is None else [f"--id=GPU-{uuid}"]
    try:
        asked = subprocess.run(
            [tool, *which, f"--query-gpu={','.join(_GPU_CLOCKS)}", "--format=csv,noheader"],
            capture_output=True, text=True, check=True, timeout=20,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return dict(zip(_GPU_CLOCKS, map(str.strip, asked.stdout.splitlines()[0].split(",")), strict=False))


def is_busy(load: float, cpus: int | None) -> bool:
    """Whether a machine has so much to do that its times are not those of the measured program alone."""
    return load > BUSY * (cpus or 1)


def environment(device: torch.device, packages: Sequence[str] = (), *, command: str) -> dict[str, Any]:
    """What a result is measured on: command line, processor, GPU, clocks, threads, load, versions of the packages."""
    on_gpu = device.type == "cuda"
    properties = torch.cuda.get_device_properties(device) if on_gpu else None
    return {
        "command": command,
        "device": device.type,
        "cpu": cpu_name(),
        "cpus": os.cpu_count(),
        "gpu": properties.name if properties else None,
        "gpu_memory_bytes": properties.total_memory if properties else None,
        "cuda": torch.version.cuda if on_gpu else None,
        "clocks_at_start": clocks(device),
        "threads": torch.get_num_threads(),
        "load_at_start": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {
            name: version_of(name) for name in ("diffcore-gpu", "torch", "triton", "numpy", "numba", *packages)
        },
    }
