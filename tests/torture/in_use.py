"""Files of a store that change while it is used: cut, replaced, written over, deleted; touched, and put back unchanged.

Images must stay right, or a `DiffcoreError` must name the file. Each case is a process of its own, so that a SIGBUS is
seen as such. A store read by "pread" must never end a process; a mapped one may, where a file is cut in the very moment
of a copy, which `amid` counts.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from diffcore_gpu.errors import DiffcoreError
from diffcore_gpu.ops.mix import op
from diffcore_gpu.prefetch import PrefetchLoader
from diffcore_gpu.store import CounterpartStore
from diffcore_gpu.transform import DiffCoreMix
from tests.store import work
from tests.stores import NUM_SAMPLES, SHAPE, write_store
from tests.torture.forks import in_fork
from tests.torture.ledger import Ledger

PART = "changed in use"
AMID = "changed in use, at any moment"
READINGS = ("map", "pread")

_BATCH = 6
_ROUNDS = 4


# Users, each of which yields what must not depend on what happens to the files


class Rows(Dataset):
    """The rows of a store, one by one."""

    def __init__(self, store: CounterpartStore) -> None:
        self._store = store

    def __len__(self) -> int:
        return _ROUNDS * len(self._store)

    def __getitem__(self, index: int) -> Tensor:
        return self._store.images([index % len(self._store)])[0]


def _images(store: CounterpartStore) -> Iterator[Tensor]:
    for begin in range(0, _ROUNDS * len(store), _BATCH):
        yield store.images([row % len(store) for row in range(begin, begin + _BATCH)])


def _columns(store: CounterpartStore) -> Iterator[Tensor]:
    yield store.labels
    for column in (store.row_label, store.row_seed, store.row_prompt, store.row_attempt):
        yield column()
    for sample in range(store.num_samples):
        yield store.rows(sample)


def _loader(method: str) -> Callable[[CounterpartStore], Iterator[Tensor]]:
    def use(store: CounterpartStore) -> Iterator[Tensor]:
        yield from DataLoader(Rows(store), _BATCH, num_workers=2, multiprocessing_context=method, prefetch_factor=1)

    return use


def _samples() -> DataLoader:
    images = torch.stack(
        [torch.randn(SHAPE, generator=torch.Generator().manual_seed(sample)) for sample in range(NUM_SAMPLES)]
    )
    return DataLoader(TensorDataset(images, torch.arange(NUM_SAMPLES)), _BATCH)


def _mix(store: CounterpartStore) -> Iterator[Tensor]:
    mix = DiffCoreMix(store.bind(store.labels, labels=store.labels), seed=0)
    for _ in range(_ROUNDS):
        for images, index in _samples():
            yield mix(images, index)


def _prefetch(store: CounterpartStore) -> Iterator[Tensor]:
    mix = DiffCoreMix(store.bind(store.labels, labels=store.labels), seed=0)
    for _ in range(_ROUNDS):
        for images, index in PrefetchLoader(_samples(), mix, "cpu"):
            yield mix(images, index)


USERS: dict[str, Callable[[CounterpartStore], Iterator[Tensor]]] = {
    "images": _images,
    "columns": _columns,
    "DiffCoreMix": _mix,
    "PrefetchLoader": _prefetch,
    "DataLoader, fork": _loader("fork"),
    "DataLoader, spawn": _loader("spawn"),
}


# Changes


def _cut(path: Path, folder: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _empty(path: Path, folder: Path) -> None:
    os.truncate(path, 0)


def _garbage(path: Path) -> bytes:
    return random.Random(0).randbytes(path.stat().st_size)


def _replace(path: Path, folder: Path) -> None:
    beside = path.with_name("beside")
    beside.write_bytes(_garbage(path))
    beside.replace(path)


def _write_over(path: Path, folder: Path) -> None:
    data = _garbage(path)
    with path.open("r+b") as file:
        file.write(data)


def _delete(path: Path, folder: Path) -> None:
    path.unlink()


def _touch(path: Path, folder: Path) -> None:
    os.utime(path)


def _put_back(path: Path, folder: Path) -> None:
    beside = path.with_name("beside")
    shutil.copyfile(path, beside)
    beside.replace(path)


def _other_store(path: Path, folder: Path) -> None:
    work.build(folder, overwrite=True)


CHANGES: dict[str, Callable[[Path, Path], None]] = {
    "cut": _cut,
    "emptied": _empty,
    "replaced": _replace,
    "written over": _write_over,
    "deleted": _delete,
    "touched": _touch,
    "put back": _put_back,
    "another store put there": _other_store,
}
HARMLESS = ("touched", "put back")


def _target(store: CounterpartStore, what: str) -> Path:
    files = {
        "shard": store.manifest.shards[1].name,
        "rows": store.manifest.rows.name,
        "pairs": store.manifest.pairs.name,
        "store.json": "store.json",
    }
    return store.path / files[what]


def _without_numba() -> None:
    op.cpu_backend = lambda dtype: "torch"  # what it compiles takes longer than all cases


def campaign(
    scratch: Path, users: Sequence[str], targets: Sequence[str] = ("shard",), only: Sequence[str] | None = None
) -> Ledger:
    """Every change, or only some, of these files under these users, mapped and read by position."""
    _without_numba()
    ledger, whole = Ledger(), scratch / "whole"
    write_store(whole)
    for user in users:
        ended = in_fork(lambda user=user: _digests(USERS[user](CounterpartStore.open(whole))))
        if ended.error or ended.signal:
            raise AssertionError(f"{user}: {ended.error}{ended.signal}")
        for reading in READINGS:
            for target in targets:
                for change in only or CHANGES:
                    _count(ledger, whole, scratch / "case", user, reading, target, change, ended.answer)
    return ledger


def _count(
    ledger: Ledger, whole: Path, folder: Path, user: str, reading: str, target: str, change: str, right: list[str]
) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    ended = in_fork(lambda: _use(folder, user, reading, target, change, right))
    key = (PART, f"{user}, {reading}", change, target)
    # Workers read while the file is cut: a map may then be touched between the look and the copy.
    worker_died = "exited unexpectedly" in ended.error or "Bus error" in ended.error
    if worker_died and reading == "map" and change in ("cut", "emptied"):
        ledger.add(*key, "SIGBUS in a worker")
    elif ended.error or ended.signal:
        ledger.fail(*key, f"{ended.signal} {ended.error.strip().splitlines()[-1:]}")
    elif ended.answer.startswith(("right", "refused")) and not (change in HARMLESS and ended.answer != "right"):
        ledger.add(*key, ended.answer)
    else:
        ledger.fail(*key, ended.answer)


def _use(folder: Path, user: str, reading: str, target: str, change: str, right: list[str]) -> str:
    store = CounterpartStore.open(folder, reading=reading)
    path = _target(store, target)
    time.sleep(0.02)  # a file system's clock may stand still for some milliseconds
    number = -1
    try:
        for number, tensor in enumerate(USERS[user](store)):
            if _digest(tensor) != right[number]:
                return f"batch {number} is wrong"
            if number == (1 if user.startswith("DataLoader") else 0):  # when both workers are at work
                CHANGES[change](path, folder)
    except DiffcoreError as error:
        named = path.name in str(error) or (change == "another store put there" and str(folder) in str(error))
        return "refused" if named else f"the file is not named: {error}"
    return "right" if number + 1 == len(right) else f"{number + 1} of {len(right)} batches came"


def _digests(tensors: Iterator[Tensor]) -> list[str]:
    return [_digest(tensor) for tensor in tensors]


def _digest(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()


def amid(scratch: Path, cases: int) -> Ledger:
    """Another process cuts or writes over a shard at any moment, while one copies images without a pause."""
    ledger, whole, folder = Ledger(), scratch / "whole", scratch / "case"
    write_store(whole, shape=(3, 96, 96))
    draw = random.Random(0)
    for reading in READINGS:
        for case in range(cases):
            change = ("cut", "written over")[case % 2]
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(whole, folder)
            delay = draw.uniform(0.0, 0.02)
            ended = in_fork(lambda reading=reading, change=change, delay=delay: _race(folder, reading, change, delay))
            key = (AMID, f"images, {reading}", change, "shard")
            if ended.signal == "SIGBUS" and reading == "map" and change == "cut":
                ledger.add(*key, "SIGBUS")
            elif ended.error or ended.signal:
                ledger.fail(*key, f"{ended.signal} {ended.error.strip().splitlines()[-1:]}")
            elif ended.answer == "refused" or (ended.answer == "wrong, then refused" and change == "written over"):
                ledger.add(*key, ended.answer)
            else:
                ledger.fail(*key, ended.answer)
    return ledger


def _race(folder: Path, reading: str, change: str, delay: float) -> str:
    store = CounterpartStore.open(folder, reading=reading)
    rows = list(range(len(store)))
    right, path, wrong = store.images(rows), _target(store, "shard"), False
    time.sleep(0.02)
    other = os.fork()
    if other == 0:
        time.sleep(delay)
        CHANGES[change](path, folder)
        os._exit(0)
    try:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            wrong |= not torch.equal(store.images(rows), right)
    except DiffcoreError as error:
        outcome = "refused" if path.name in str(error) else f"the file is not named: {error}"
        return f"wrong, then {outcome}" if wrong else outcome
    finally:
        os.waitpid(other, 0)
    return "it was never noticed"
