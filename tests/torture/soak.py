"""A store that is opened, mixed, grown, verified and closed without end; files, threads and memory stay."""

from __future__ import annotations

import gc
import resource
import threading
import time
from pathlib import Path

import torch

from diffcore_gpu.ops.mix import op
from diffcore_gpu.store import CounterpartStore, CounterpartWriter
from diffcore_gpu.transform import DiffCoreMix
from tests.store import work
from tests.torture.ledger import Ledger

PART = "soak"
GROWN = 12
"""Rows that are appended, one by one, before the store is made anew."""
MOST_MEMORY = 24 << 20
"""Bytes by which the memory of the last third may exceed that of the second; allocators keep some."""


def campaign(scratch: Path, seconds: float) -> Ledger:
    """Go round for so long, and compare the last third with the second."""
    op.cpu_backend = lambda dtype: "torch"  # what numba compiles would count as growth
    ledger, began = Ledger(), time.monotonic()
    seen: list[tuple[float, tuple[int, int, int]]] = []
    rounds = 0
    while (passed := time.monotonic() - began) < seconds or rounds < 9:
        _round(scratch / "store", rounds)
        rounds += 1
        gc.collect()
        seen.append((passed, _used()))
    middle = [used for at, used in seen if seen[-1][0] / 3 <= at < 2 * seen[-1][0] / 3]
    end = [used for at, used in seen if at >= 2 * seen[-1][0] / 3]
    for number, (what, allowed) in enumerate((("open files", 0), ("threads", 0), ("memory", MOST_MEMORY))):
        before, after = max(used[number] for used in middle), max(used[number] for used in end)
        if after > before + allowed:
            ledger.fail(PART, "open, mix, append, verify, close", what, "any", f"{before} became {after}")
        else:
            ledger.add(PART, "open, mix, append, verify, close", what, "any", "flat", rounds)
    return ledger


def _round(path: Path, number: int) -> None:
    if number % GROWN == 0:
        work.build(path, overwrite=True)
    store = CounterpartStore.open(path, reading=("map", "pread")[number % 2], verify=("lazy", None)[number // 2 % 2])
    mix = DiffCoreMix(store.bind(work.LABELS, labels=work.LABELS), seed=number)
    for begin in range(0, work.NUM_SAMPLES, 4):
        index = torch.arange(begin, begin + 4)
        mix(torch.zeros(4, *work.SHAPE), index)
    store.images(range(store.num_rows))
    store.verify()
    row = store.num_rows
    with CounterpartWriter(path, **work.arguments(append=True)) as writer:
        work.add(writer, row)


def _used() -> tuple[int, int, int]:
    """Open files, threads, and bytes of memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return len(list(Path("/proc/self/fd").iterdir())), threading.active_count(), pages * resource.getpagesize()
