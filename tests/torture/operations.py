"""What is tormented: every operation that changes a store, small, and the same in every process.

A new one is an entry of `OPERATIONS`: what lies there before, and a function that does it, and that goes on with it
where it was interrupted.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from diffcore_gpu.generation import recorder
from diffcore_gpu.generation.loop import generate
from diffcore_gpu.generation.work import plan_work
from diffcore_gpu.packing import PackOptions, rows
from diffcore_gpu.packing.imagefolder import scan_image_folder
from diffcore_gpu.packing.pack import pack
from diffcore_gpu.store import CounterpartStore, CounterpartWriter, making
from diffcore_gpu.store.durable import LOCK_NAME
from diffcore_gpu.store.growth import convert, merge, prune, rebind
from diffcore_gpu.store.remote import transfer
from diffcore_gpu.store.remote.pull import pull
from diffcore_gpu.store.remote.push import push
from tests.generation import fakes
from tests.images import write_noise
from tests.store import work
from tests.torture.calls import mark

STORE = "store"
VERSION1 = Path(__file__).parents[1] / "store" / "version1"
FINISHED = 1 << 40
"""What an operation that has ended has promised; below it are numbers of rows."""

_LEFT_OUT = (LOCK_NAME, "report.json")  # a lock may stay where removing it fails; the report holds seconds


@dataclass(frozen=True)
class Operation:
    """An operation on stores.

    Attributes:
        name: its name in the table.
        run: does it, or goes on with it, in a folder of stores, from a folder of inputs; the number of rows that it
            found there.
        inputs: makes the folder of inputs, which nothing changes afterwards.
        before: makes what lies there before, from the inputs.
        goes_on: whether it goes on where it was; else, once it has put its work in place, it begins anew.
        atomic: whether it sees to it that a store stands whole at every moment; else, as behind a URL, the server must
            take a file as a whole and keep it.
    """

    name: str
    run: Callable[[Path, Path], int]
    inputs: Callable[[Path], None] = lambda folder: None
    before: Callable[[Path, Path], None] = lambda inputs, out: None
    goes_on: bool = True
    atomic: bool = True


def contents(out: Path) -> dict[str, bytes]:
    """Every file below a folder of stores, but for locks and the reports, which hold times; and every empty folder."""
    return {
        str(path.relative_to(out)): b"" if path.is_dir() else path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.name not in _LEFT_OUT and not (path.is_dir() and any(path.iterdir()))
    }


def store_of(out: Path) -> str | None:
    """The checksum of the finished store that stands there, verified; None where there is none.

    Raises:
        StoreError: there is one, and it is damaged.
    """
    if not (out / STORE / "store.json").exists():
        return None
    store = CounterpartStore.open(out / STORE)
    store.verify()
    return store.checksum


# The writer, of 11 rows in shards of 4, each over several sectors of a disk

_SHAPE = (3, 20, 28)
_ROWS = 11


def _image(row: int) -> np.ndarray:
    return np.random.default_rng(row).integers(0, 256, _SHAPE, dtype=np.uint8)


def _write(inputs: Path, out: Path, rows: int = _ROWS, **changes: object) -> int:
    """Write so many rows; with `append`, those that the store lacks."""
    making.AUTO_FLUSH_BYTES = 3 * _image(0).size
    arguments = work.arguments(image_shape=_SHAPE, rows_per_shard=4, **changes)
    with CounterpartWriter(out / STORE, **arguments, resume=True) as made:
        found = FINISHED if made.finished or made.num_rows == rows else made.num_rows
        for row in range(made.num_rows, rows if not made.finished else 0):
            made.add_row(_image(row), label=row % 3, prompt=f"a “{row % 4}” in the snow", seed=row, attempt=row % 2)
            for sample, similarity in work.pairs_of(row):
                made.add_pair(sample, row, similarity)
            if row % 5 == 4:
                made.flush()
                mark(made.num_rows)
        made.update_metadata({"generated": rows})
    return found


def _old_store(inputs: Path, out: Path) -> None:
    work.build(out / STORE, metadata={"model": "old"})


def _overwrite(inputs: Path, out: Path) -> int:
    return _write(inputs, out, overwrite=True)


def _grown_store(inputs: Path, out: Path) -> None:
    _write(inputs, out)
    _write(inputs, out, rows=14, append=True)


# Changes of finished stores


def _two_stores(folder: Path) -> None:
    """Of which the second has some rows of the first, in `one` and `two`."""
    making.AUTO_FLUSH_BYTES = 1 << 20
    for name, begin, end in (("one", 0, 9), ("two", 5, 14)):
        arguments = work.arguments(image_shape=_SHAPE, rows_per_shard=4, metadata={"model": name})
        with CounterpartWriter(folder / name, **arguments) as made:
            for number in range(begin, end):
                row = made.add_row(_image(number), label=number % 3, prompt=f"{number % 2}", seed=number)
                for sample, similarity in work.pairs_of(number):
                    made.add_pair(sample, row, similarity)


def _merge(inputs: Path, out: Path, link: bool) -> int:
    found = _finished(out)
    merge(out / STORE, [inputs / "one", inputs / "two"], link=link)
    return found


def _prune(inputs: Path, out: Path) -> int:
    expected = CounterpartStore.open(inputs / "grown").checksum
    prune(out / STORE, below=0.3, best=2, compact=True, expect=expected)
    return 0


def _grown_twice(inputs: Path, out: Path) -> None:
    _grown_store(inputs, out)
    shutil.copytree(out / STORE, inputs / "grown")


def _rebind(inputs: Path, out: Path) -> int:
    """To a dataset that lost two samples, gained one and lists them in another order."""
    names = [*work.NAMES[:1:-1], "class 1/more.jpg"]
    labels = [*work.LABELS[:1:-1], 1]
    rebind(out / STORE, labels, class_names=["red", "green", "blue"], labels=labels, file_names=names)
    return 0


def _convert(inputs: Path, out: Path, source: Path, codec: str) -> int:
    making.AUTO_FLUSH_BYTES = 200
    found = _finished(out)
    convert(source if source.is_absolute() else inputs / source, out / STORE, codec=codec)
    return found


def _finished(out: Path) -> int:
    return FINISHED if (out / STORE / "store.json").exists() else 0


# Copies of stores behind URLs, of which a folder stands for the server


def _push(inputs: Path, out: Path) -> int:
    transfer.WAITS = (0,) * len(transfer.WAITS)
    found = _finished(out)
    push(inputs / "one", f"file://{out / STORE}", with_card=False)
    return found


def _pull(inputs: Path, out: Path) -> int:
    transfer.WAITS = (0,) * len(transfer.WAITS)
    found = _finished(out)
    pull(f"file://{inputs / 'one'}", out / STORE)
    return found


# pack: six images of three classes, one of them broken, three rows in a shard

_NAMES = [f"{label}/{number}.png" for label in fakes.CLASSES for number in range(3)]


def _images(folder: Path) -> None:
    fakes.real_images(folder / "real")
    write_noise(folder / "generated", _NAMES, 12, 10, seed=1)
    (folder / "generated" / _NAMES[3]).write_bytes(b"no image")


def _pack(inputs: Path, out: Path, generated: str = "generated", append: bool = False) -> int:
    making.AUTO_FLUSH_BYTES, making.SHARD_BYTES, rows._SAVE_SECONDS = 192, 3 * 192, 0.0
    options = PackOptions(inputs / "real", inputs / generated, out / STORE, 8, 8, workers=1, resume=True, append=append)
    found = 0 if append else _finished(out)
    pack(options)
    return found


def _half_packed(inputs: Path, out: Path) -> None:
    for name in _NAMES[1::2]:
        if name != _NAMES[3]:
            (inputs / "half" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(inputs / "generated" / name, inputs / "half" / name)
    _pack(inputs, out, generated="half")


# generate: 19 images of a model that takes no time, of which 10 pass


def _generate(inputs: Path, out: Path, save_seconds: float, fraction: float = 1.0, append: bool = False) -> int:
    recorder.SAVE_SECONDS, making.SHARD_BYTES = save_seconds, 4 * 48
    found = 0 if append else _finished(out)
    model, judge = fakes.FakeTextToImage(rounding=True), fakes.FakeFilter(fakes.labels())
    wanted = plan_work(scan_image_folder(inputs / "real"), fakes.settings(fraction=fraction))
    report = generate(wanted, out / STORE, model, judge, resume=True, append=append)
    if fraction == 1.0 and (report.total.generated, report.total.accepted) != (19, 10):
        raise AssertionError(f"the report counts {report.total}.")
    return found


def _half_generated(inputs: Path, out: Path) -> None:
    _generate(inputs, out, save_seconds=0.0, fraction=0.5)


OPERATIONS = {
    operation.name: operation
    for operation in (
        Operation("write", _write),
        Operation("overwrite", _overwrite, before=_old_store, goes_on=False),
        Operation("append", partial(_write, rows=20, append=True), before=_grown_store),
        Operation("merge", partial(_merge, link=True), inputs=_two_stores),
        Operation("merge, copied", partial(_merge, link=False), inputs=_two_stores),
        Operation("prune", _prune, before=_grown_twice),
        Operation("rebind", _rebind, before=_grown_store),
        Operation("convert", partial(_convert, source=VERSION1, codec="raw")),
        Operation("convert to WebP", partial(_convert, source=Path("one"), codec="webp"), inputs=_two_stores),
        Operation("push", _push, inputs=_two_stores, atomic=False),
        Operation("pull", _pull, inputs=_two_stores),
        Operation("pack", _pack, inputs=_images),
        Operation("pack, appended", partial(_pack, append=True), inputs=_images, before=_half_packed),
        Operation("generate", partial(_generate, save_seconds=0.0), inputs=_images),
        Operation("generate, saved once", partial(_generate, save_seconds=1e9), inputs=_images),
        Operation("generate more", partial(_generate, save_seconds=0.0, append=True), _images, _half_generated),
    )
}


class Bench:
    """An operation with its inputs and what it makes undisturbed, in a scratch folder.

    Attributes:
        operation: the operation.
        inputs: the folder of its inputs.
        before: a folder of stores as it is before it.
        expected: what an undisturbed run leaves.
        old, new: the checksums of the store before and after it; None: there is none.
    """

    def __init__(self, name: str, scratch: Path) -> None:
        self.operation = OPERATIONS[name]
        self.inputs, self.before, after = scratch / "inputs", scratch / "before", scratch / "after"
        for folder in (self.inputs, self.before):
            folder.mkdir(parents=True)
        self.operation.inputs(self.inputs)
        self.operation.before(self.inputs, self.before)
        self.old = store_of(self.before)
        self.prepare(after)
        self.run(after)
        self.expected, self.new = contents(after), store_of(after)
        self._case = scratch / "case"

    def prepare(self, out: Path) -> Path:
        """A folder of stores as it is before the operation."""
        return Path(shutil.copytree(self.before, out))

    def fresh(self) -> Path:
        """The folder of the next case, as it is before the operation."""
        self.clear()
        return self.prepare(self._case)

    def clear(self) -> Path:
        """The folder of the next case, which is not there."""
        shutil.rmtree(self._case, ignore_errors=True)
        return self._case

    def run(self, out: Path) -> int:
        """The operation, or the rest of it; the rows that it found."""
        return self.operation.run(self.inputs, out)
