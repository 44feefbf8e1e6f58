"""Files that were damaged: those of unfinished work, which is then resumed, and those of finished stores.

Each case damages one or several files of a folder as disks, copies and people do. Resumed work must end as an
undisturbed run does or be refused in one plain sentence; a finished store must be refused when it is opened or
verified, or everything that is read of it must be right.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from diffcore_gpu.errors import DiffcoreError
from diffcore_gpu.store import CounterpartStore
from tests.torture import oracle
from tests.torture.calls import CHANGES, SYNCS, Call, Run, watched
from tests.torture.faults import calls_of
from tests.torture.forks import in_fork
from tests.torture.ledger import Ledger
from tests.torture.operations import STORE, Bench

WORK = "damaged work"
FINISHED = "damaged store"

_OTHERS = (".png", "report.json", "writer.lock")  # thumbnails and times, which are no part of a store


def _flip(path: Path, draw: random.Random, others: list[Path]) -> None:
    raw = bytearray(path.read_bytes())
    for _ in range(draw.choice((1, 1, 1, 2, 8)) if raw else 0):
        raw[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
    path.write_bytes(raw)


def _cut(path: Path, draw: random.Random, others: list[Path]) -> None:
    os.truncate(path, draw.randint(0, path.stat().st_size))


def _fill(path: Path, draw: random.Random, byte: Callable[[], int]) -> None:
    raw = bytearray(path.read_bytes())
    begin = draw.randint(0, len(raw))
    end = min(len(raw), begin + draw.choice((1, 8, 64, 512, 4096)))
    raw[begin:end] = bytes(byte() for _ in range(end - begin))
    path.write_bytes(raw)


def _zero(path: Path, draw: random.Random, others: list[Path]) -> None:
    _fill(path, draw, lambda: 0)


def _garble(path: Path, draw: random.Random, others: list[Path]) -> None:
    _fill(path, draw, lambda: draw.randrange(256))


def _append(path: Path, draw: random.Random, others: list[Path]) -> None:
    path.write_bytes(path.read_bytes() + draw.randbytes(draw.choice((1, 15, 512, 5000))))


def _swap(path: Path, draw: random.Random, others: list[Path]) -> None:
    other = draw.choice(others)
    mine, theirs = path.read_bytes(), other.read_bytes()
    path.write_bytes(theirs)
    other.write_bytes(mine)


def _copy(path: Path, draw: random.Random, others: list[Path]) -> None:
    path.write_bytes(draw.choice(others).read_bytes())


def _delete(path: Path, draw: random.Random, others: list[Path]) -> None:
    path.unlink(missing_ok=True)


DAMAGES = {
    "bits flipped": _flip,
    "cut": _cut,
    "zeroed": _zero,
    "garbled": _garble,
    "appended to": _append,
    "swapped": _swap,
    "copied over": _copy,
    "deleted": _delete,
}
OTHER_TIME = "of another time"
SEVERAL = "several of these"


def files_of(folder: Path) -> list[Path]:
    """The files that a case may damage."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.endswith(_OTHERS)]


def damage(folder: Path, times: list[Path], draw: random.Random) -> tuple[str, str]:
    """Damage a folder, of which there are copies of other times; what was done, and to which file."""
    files = files_of(folder)
    kind = draw.choice((*DAMAGES, OTHER_TIME, SEVERAL))
    path = draw.choice(files)
    if kind == OTHER_TIME:
        older = draw.choice(times) / path.relative_to(folder)
        if older.exists():
            shutil.copyfile(older, path)
        else:
            path.unlink()
    elif kind == SEVERAL:
        for _ in range(draw.randint(2, 4)):
            one = draw.choice(files)
            if one.exists():
                DAMAGES[draw.choice(list(DAMAGES))](one, draw, [other for other in files if other.exists()])
    else:
        DAMAGES[kind](path, draw, files)
    return kind, path.name


def snapshots(bench: Bench, scratch: Path, count: int) -> list[Path]:
    """The folder of stores as it lies after a kill, at so many moments of the operation, in their order."""
    changes = sum(name in CHANGES for name in calls_of(bench, scratch))
    taken = []
    for number in range(count):
        out = bench.fresh()
        step = changes * (number + 1) // (count + 1)
        ended = in_fork(lambda out=out, step=step: _run_until(bench, out, step))
        if ended.signal != "SIGKILL":
            raise AssertionError(f"the run was not killed: {ended}.")
        taken.append(Path(shutil.copytree(out, scratch / f"time{number}")))
    return taken


def _run_until(bench: Bench, out: Path, step: int) -> None:
    left = [step]

    def die(call: Call, run: Run) -> Any:
        if call.name in CHANGES:
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
        return None if call.name in SYNCS else run()

    with watched(out, die):
        bench.run(out)


def campaign(operation: str, scratch: Path, cases: int, times: int = 6, first: int = 0) -> Ledger:
    """Damage unfinished work, and resume it.

    Args:
        operation: what was at work.
        scratch: a folder.
        cases: how many.
        times: at how many moments it was interrupted.
        first: the seed of the first case.
    """
    bench, ledger = Bench(operation, scratch), Ledger()
    taken = snapshots(bench, scratch, times)
    for seed in range(first, first + cases):
        draw = random.Random(seed)
        begun = draw.choice(taken)
        out = Path(shutil.copytree(begun, bench.clear()))
        kind, name = damage(out, taken, draw)
        try:
            oracle_says = oracle.check_resumed(bench, out, refusals=ledger.said)
        except oracle.WrongError as error:
            ledger.fail(WORK, operation, kind, f"{name} (seed {seed})", str(error))
        else:
            ledger.add(WORK, operation, kind, name, oracle_says)
    return ledger


def reading(store: CounterpartStore) -> str:
    """A digest of everything that can be read of a store."""
    digest = hashlib.sha256()
    columns = (store.row_label(), store.row_seed(), store.row_prompt(), store.row_attempt())
    pairs = (store.labels, store.pair_ptr, store.pair_row, store.pair_similarity)
    for tensor in (store.images(list(range(store.num_rows))), *columns, *pairs):
        digest.update(tensor.contiguous().numpy().tobytes())
    digest.update(repr((store.prompts, store.class_names, store.image_shape, dict(store.metadata))).encode())
    return digest.hexdigest()


def finished(operation: str, scratch: Path, cases: int, first: int = 0, sound: Iterable[str] = ()) -> Ledger:
    """Damage finished stores, then open and verify them.

    Args:
        operation: what made it.
        scratch: a folder.
        cases: how many.
        first: the seed of the first case.
        sound: the folder of another store beside it, whose files may come in.
    """
    bench, ledger = Bench(operation, scratch), Ledger()
    whole, other = bench.fresh() / STORE, scratch / "other"
    bench.run(whole.parent)
    shutil.copytree(whole, scratch / "whole")
    shutil.copytree(Path(*sound) if sound else whole, other)
    right = reading(CounterpartStore.open(whole))
    for seed in range(first, first + cases):
        draw = random.Random(seed)
        store = Path(shutil.copytree(scratch / "whole", bench.clear()))
        kind, name = damage(store, [other], draw)
        try:
            opened = CounterpartStore.open(store)
            opened.verify()
            outcome = "right" if reading(opened) == right else ""
        except DiffcoreError as error:
            outcome = "refused" if oracle.is_plain(error) else ""
            ledger.said.append(str(error))
        if outcome:
            ledger.add(FINISHED, operation, kind, name, outcome)
        else:
            ledger.fail(
                FINISHED, operation, kind, f"{name} (seed {seed})", "wrong bytes were read, or no plain sentence"
            )
    return ledger
