"""What access to a store costs: opening one of a million rows, writing it, and reading random rows of another.

The rows are read as a transform on the CPU or a DataLoader worker reads them, from pages that the system has cached,
and compared with plain memory copies of the same number of bytes: `clone` into fresh memory, `copy_` into a buffer.
Needs about 4 GB under --folder, and removes it.

    python benchmarks/store_access.py --json results/store_access.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffcore_gpu.store import CounterpartStore, CounterpartWriter

OPEN = """
import json, resource, sys, time
import diffcore_gpu.store as store
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
before = resident()
start = time.perf_counter()
opened = store.CounterpartStore.open(sys.argv[1])
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "resident_bytes": resident() - before}))
"""


def timed(actions: dict[str, Callable[[int], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each of `repeats` calls, after a tenth as many unmeasured ones.

    The actions take turns, so that another load on the machine falls on all of them.
    """
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for repeat in range(-max(3, repeats // 10), repeats):
        for name, action in actions.items():
            start = time.perf_counter()
            result = action(repeat)
            elapsed = time.perf_counter() - start
            del result  # freeing the result is not part of it
            if repeat >= 0:
                seconds[name].append(elapsed)
    return seconds


def summary(seconds: list[float], num_bytes: int | None = None) -> dict[str, float]:
    """Median, 10th and 90th percentile in milliseconds, and the rate at the median where bytes are moved."""
    tenths = statistics.quantiles(seconds, n=10)
    result = {
        "median_ms": statistics.median(seconds) * 1e3,
        "p10_ms": tenths[0] * 1e3,
        "p90_ms": tenths[-1] * 1e3,
        "repeats": len(seconds),
    }
    if num_bytes is not None:
        result["gb_per_s"] = num_bytes / statistics.median(seconds) / 1e9
    return result


def write(path: Path, num_rows: int, size: int, num_samples: int) -> float:
    """Make a store of `num_rows` rows of 3×size×size with a pair each; the seconds that it took."""
    generator = np.random.default_rng(0)
    pool = generator.integers(0, 256, (64, 3, size, size), dtype=np.uint8)
    start = time.perf_counter()
    with CounterpartWriter(
        path,
        num_samples=num_samples,
        image_shape=(3, size, size),
        class_names=["only"],
        labels=np.zeros(num_samples, np.int64),
    ) as writer:
        for row in range(num_rows):
            writer.add_row(pool[row % 64], label=0, prompt=f"prompt {row % 200}", seed=row)
            writer.add_pair(row % num_samples, row, 0.5)
    return time.perf_counter() - start


def measure_opening(folder: Path, num_rows: int, repeats: int) -> dict[str, Any]:
    """Write a store of many small rows, and open it in fresh processes."""
    path = folder / "many"
    seconds = write(path, num_rows, 32, num_rows)
    runs = []
    for _ in range(repeats):
        run = subprocess.run([sys.executable, "-c", OPEN, str(path)], capture_output=True, text=True, check=True)
        runs.append(json.loads(run.stdout))
    start = time.perf_counter()
    CounterpartStore.open(path).verify()
    verify_seconds = time.perf_counter() - start
    shutil.rmtree(path)
    return {
        "rows": num_rows,
        "write_seconds": seconds,
        "verify_seconds": verify_seconds,
        "open": summary([run["seconds"] for run in runs]),
        "extra_resident_mb": max(run["resident_bytes"] for run in runs) / 1e6,
    }


def measure_reading(folder: Path, num_rows: int, batch: int, repeats: int) -> dict[str, Any]:
    """Random rows of 3×256×256 from a cached store, and memory copies of the same bytes, in turns."""
    path = folder / "large"
    write(path, num_rows, 256, num_rows)
    store = CounterpartStore.open(path)
    store.images(range(num_rows))  # bring every page into the system's cache, and into this process's map
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(0, num_rows, (batch,), generator=generator) for _ in range(repeats)]
    memory = torch.randint(0, 256, (num_rows, 3, 256, 256), dtype=torch.uint8)
    starts = torch.randint(0, num_rows - batch + 1, (repeats,), generator=generator).tolist()
    buffer = torch.empty(batch, 3, 256, 256, dtype=torch.uint8)
    moved = buffer.nbytes
    actions: dict[str, Callable[[int], object]] = {
        "images": lambda repeat: store.images(rows[repeat]),
        "clone": lambda repeat: memory[starts[repeat] : starts[repeat] + batch].clone(),
        "clone of the same memory": lambda _: memory[:batch].clone(),
        "images(out=)": lambda repeat: store.images(rows[repeat], out=buffer),
        "copy_": lambda repeat: buffer.copy_(memory[starts[repeat] : starts[repeat] + batch]),
        "copy_ of the same memory": lambda _: buffer.copy_(memory[:batch]),
    }
    results: dict[str, Any] = {name: summary(seconds, moved) for name, seconds in timed(actions, repeats).items()}
    results["shards"] = len(store.image_shards)
    for ours, copy in (
        ("images", "clone"),
        ("images", "clone of the same memory"),
        ("images(out=)", "copy_"),
        ("images(out=)", "copy_ of the same memory"),
    ):
        results[f"speed of {ours} / {copy}"] = results[copy]["median_ms"] / results[ours]["median_ms"]
    shutil.rmtree(path)
    return results


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def main() -> None:
    """Measure, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder", type=Path, default=None, help="where to put the stores (default: a temporary folder)"
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of 3×32×32 in the store that is opened")
    parser.add_argument("--large-rows", type=int, default=2000, help="rows of 3×256×256 in the store that is read")
    parser.add_argument("--batch", type=int, default=64, help="rows read at once")
    parser.add_argument("--repeats", type=int, default=200, help="measured repeats of each reading")
    parser.add_argument(
        "--threads", type=int, default=torch.get_num_threads(), help="threads of torch (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, default=None, help="also write the figures here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        results = {
            "cpu": cpu_name(),
            "cpus": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "opening": measure_opening(Path(folder), options.rows, repeats=7),
            "reading": measure_reading(Path(folder), options.large_rows, options.batch, options.repeats),
        }
    text = json.dumps(results, indent=1, ensure_ascii=False)
    print(text)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
