"""What access to a store costs: opening one of a million rows, writing it, and reading random rows of another.

The rows are read as a transform on the CPU or a DataLoader worker reads them, from pages that the system has cached,
and compared with plain memory copies of the same number of bytes: `clone` into fresh memory, `copy_` into a buffer.
Then two workers of a `DataLoader` read a whole store, opened as it is and with `verify="lazy"`, in a first epoch, where
each row is hashed, and in a second: alone, and beside a JPEG image that is decoded for each row, as in a training. The
plain store is there twice; the difference of the two is the error of the rest.
Needs about 4 GB under --folder, and removes it.

    diffcore bench store-access --json benchmarks/results/DEVICE/store_access.json
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from io import BytesIO
from json import loads
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from diffcore_gpu.benchmarks.harness import measure, options
from diffcore_gpu.benchmarks.harness.command import output_of
from diffcore_gpu.benchmarks.harness.runs import Run
from diffcore_gpu.benchmarks.reporting.suite_tables import store_access_tables
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


def summary(seconds: list[float], num_bytes: int | None = None) -> dict[str, Any]:
    """As `measure.summary`, and the rate at the median where bytes are moved."""
    found = measure.summary(seconds)
    return found if num_bytes is None else {**found, "gb_per_s": num_bytes / found["median_ms"] / 1e6}


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
        runs.append(loads(run.stdout))
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
    # Other rows in every call, so that the processor's caches hold none of them.
    rows = itertools.cycle(torch.randint(0, num_rows, (repeats, batch), generator=generator))
    rows_into = itertools.cycle(torch.randint(0, num_rows, (repeats, batch), generator=generator))
    memory = torch.randint(0, 256, (num_rows, 3, 256, 256), dtype=torch.uint8)
    starts = itertools.cycle(torch.randint(0, num_rows - batch + 1, (repeats,), generator=generator).tolist())
    starts_into = itertools.cycle(torch.randint(0, num_rows - batch + 1, (repeats,), generator=generator).tolist())

    def consecutive(start: int) -> Tensor:
        return memory[start : start + batch]

    buffer = torch.empty(batch, 3, 256, 256, dtype=torch.uint8)
    moved = buffer.nbytes
    actions: dict[str, Callable[[], object]] = {
        "images": lambda: store.images(next(rows)),
        "clone": lambda: consecutive(next(starts)).clone(),
        "clone of the same memory": lambda: memory[:batch].clone(),
        "images(out=)": lambda: store.images(next(rows_into), out=buffer),
        "copy_": lambda: buffer.copy_(consecutive(next(starts_into))),
        "copy_ of the same memory": lambda: buffer.copy_(memory[:batch]),
    }
    seconds = measure.interleaved(actions, device=torch.device("cpu"), repeats=repeats, warmup=max(3, repeats // 10))
    times = {name: summary(values, moved) for name, values in seconds.items()}
    compared = (
        ("images", "clone"),
        ("images", "clone of the same memory"),
        ("images(out=)", "copy_"),
        ("images(out=)", "copy_ of the same memory"),
    )
    speed = {f"{ours} / {copy}": times[copy]["median_ms"] / times[ours]["median_ms"] for ours, copy in compared}
    shutil.rmtree(path)
    return {"batch": batch, "shards": len(store.image_shards), "times": times, "speed": speed}


def measure_checking(folder: Path, num_rows: int, batch: int, repeats: int, *, decoding: bool) -> dict[str, Any]:
    """Epochs of a loader of two workers that read rows of 3×256×256, checked as they are read or not, in turns."""
    num_rows = num_rows // 4 if decoding else num_rows
    picture = _picture() if decoding else None
    path = folder / "checked"
    write(path, num_rows, 256, num_rows)
    plain = CounterpartStore.open(path)
    plain.images(range(num_rows))

    def epoch(store: CounterpartStore) -> None:
        batches = torch.randperm(num_rows).split(batch)
        loader = DataLoader(
            _Batches(store, picture), batch_size=None, sampler=[rows.tolist() for rows in batches], num_workers=2
        )
        for _ in loader:
            pass

    lazy: list[CounterpartStore] = []

    def first() -> None:
        lazy[:] = [CounterpartStore.open(path, verify="lazy")]
        epoch(lazy[0])

    actions: dict[str, Callable[[], object]] = {
        "plain": lambda: epoch(plain),
        "plain again": lambda: epoch(plain),
        "lazy, first epoch": first,
        "lazy, later epoch": lambda: epoch(lazy[0]),
    }
    # The epochs of a lazy store must follow each other, so the arms have a fixed order.
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(-1, repeats):
        for name, action in actions.items():
            start = time.perf_counter()
            action()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - start)
    shutil.rmtree(path)
    ratios = {
        name: [value / before for value, before in zip(values, seconds["plain"], strict=True)]
        for name, values in seconds.items()
        if name != "plain"
    }
    return {
        "rows": num_rows,
        "batch": batch,
        "workers": 2,
        "decoding": decoding,
        "seconds": seconds,
        "ratios": {name: {"median": median(values), "all": values} for name, values in ratios.items()},
    }


class _Batches(Dataset[Tensor]):
    """Batches of a store's rows, by their numbers; a picture is decoded for each row, if there is one."""

    def __init__(self, store: CounterpartStore, picture: bytes | None) -> None:
        self._store, self._picture = store, picture

    def __getitem__(self, rows: list[int]) -> Tensor:
        if self._picture is not None:
            for _ in rows:
                with Image.open(BytesIO(self._picture)) as image:
                    image.load()
        return self._store.images(rows)


def _picture() -> bytes:
    """A JPEG file of 256×256 pixels, smooth as photographs are."""
    ramp = np.linspace(0, 255, 256)
    pixels = np.stack([np.add.outer(ramp, ramp) / 2, np.add.outer(ramp, -ramp) % 256, np.outer(ramp, ramp) / 255], -1)
    file = BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def report(result: Mapping[str, Any]) -> str:
    """The figures of one part."""
    found = store_access_tables({"results": [result]})
    return "\n\n".join(f"{one.title}\n{measure.table(one.header, one.rows)}" for one in found)


def main(
    context: typer.Context,
    folder: Annotated[
        Path | None, options.folder("--folder", "Where to put the stores. Default: a temporary one.")
    ] = None,
    rows: Annotated[int, options.number("--rows", "Rows of 3×32×32 in the store that is opened.")] = 1_000_000,
    opens: Annotated[int, options.number("--opens", "Times that it is opened.")] = 7,
    large_rows: Annotated[int, options.number("--large-rows", "Rows of 3×256×256 in the store that is read.")] = 2000,
    batch: Annotated[int, options.number("--batch", "Rows read at once.")] = 64,
    repeats: options.Repeats = 200,
    threads: options.Threads = None,
    json: options.ResumableJson = None,
    budget_minutes: options.BudgetMinutes = None,
) -> None:
    """Measure, print, and write JSON if asked."""
    setting = {
        "rows": rows, "opens": opens, "large_rows": large_rows, "batch": batch, "repeats": repeats,
        "threads": options.use_threads(threads),
    }  # fmt: skip
    turns = max(3, repeats // 10)
    run = Run("store-access", output_of(context, json, budget_minutes), torch.device("cpu"), setting)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        measures: dict[str, Callable[[], dict[str, Any]]] = {
            "opening": lambda: measure_opening(Path(name), rows, opens),
            "reading": lambda: measure_reading(Path(name), large_rows, batch, repeats),
            "checking": lambda: measure_checking(Path(name), large_rows, batch, turns, decoding=False),
            "checking beside decoding": lambda: measure_checking(Path(name), large_rows, batch, turns, decoding=True),
        }
        run.do([{"what": what} for what in measures], lambda part: measures[part["what"]](), report)
