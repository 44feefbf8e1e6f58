"""The power is cut after every call of a run, and every kind of disk that `disk` allows is tried.

At each point: everything kept (which is a kill), nothing kept, each single change lost, each single change kept; each
single write torn; and random subsets with random tears. States that were tried before are not tried again. After each,
the store that stands there must be the old one or the new one, and the rest of the operation must lead to the bytes of
an undisturbed run, with as many rows at its beginning as `flush` had promised.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from tests.torture import oracle
from tests.torture.calls import SYNCS, WRITES, Call, Run, watched
from tests.torture.disk import MODELS, Data, Entry, Log, Mark, Model, Sync, Torn, closed, pending, state, write_out
from tests.torture.ledger import Ledger
from tests.torture.operations import FINISHED, Bench, contents

PART = "power loss"
FORGOTTEN = "one flush forgotten"
_BLOCKS = (512, 4096)
_GARBAGE = b"\xa5"


class Choice(NamedTuple):
    """A state of the disk, and in the table's words, what became of what was not safe."""

    fault: str
    lost: frozenset[int]
    torn: dict[int, Torn]
    split: frozenset[int] = frozenset()


def record(bench: Bench) -> Log:
    """The log of an undisturbed run.

    Raises:
        AssertionError: the run changed something by a call that is not watched.
    """
    calls: list[Call] = []

    def note(call: Call, run: Run) -> Any:
        result = None if call.name in SYNCS else run()
        calls.append(replace(call, data=call.data[:result]) if call.name in WRITES else call)
        return result  # calls that failed, as of a file that may be missing, changed nothing

    out = bench.fresh()
    with watched(out, note):
        bench.run(out)
    log = Log.of(bench.before, calls, out)
    log.events.append(Mark(FINISHED))
    seen = {name: data for name, data in state(log, len(log.events), (), {}).items() if data is not None}
    there = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    if seen != there:
        raise AssertionError(f"what was seen is not what is there: {sorted(seen.keys() ^ there.keys())}.")
    return log


def choices(
    log: Log, point: int, waiting: list[int], model: Model, draw: random.Random, samples: int
) -> Iterator[Choice]:
    """What may become of the changes that wait to be safe."""

    def choice(
        fault: str, kept: set[int], torn: dict[int, Torn] | None = None, split: set[int] | None = None
    ) -> Choice:
        if model == "ordered":
            kept = closed(log, point, kept, waiting)
        return Choice(fault, frozenset(waiting) - kept, torn or {}, frozenset(split or ()))

    everything = set(waiting)
    yield choice("all kept", everything)
    yield choice("none kept", set())
    for index in waiting:
        yield choice("one lost", everything - {index})
        yield choice("one kept", {index})
    writes = [index for index in waiting if isinstance(log.events[index], Data) and log.events[index].data]
    for index in writes:
        for fill in (b"\0", _GARBAGE):
            yield choice("one without its bytes", everything, {index: Torn(frozenset(), 512, fill)})
            yield choice("one torn", everything, {index: _tear(log.events[index], draw, fill)})
    renames = [index for index in waiting if _leads_out(log.events[index])]
    if model == "unordered":
        for index in renames:
            yield choice("one rename with both names", everything, split={index})
    for _ in range(samples if waiting else 0):
        kept = {index for index in waiting if draw.random() < draw.choice((0.2, 0.5, 0.8))}
        torn = {
            index: _tear(log.events[index], draw, draw.choice((b"\0", _GARBAGE)))
            for index in writes
            if index in kept and draw.random() < 0.4
        }
        split = {index for index in renames if model == "unordered" and draw.random() < 0.3}
        yield choice("some of each", kept, torn, split)


def _tear(event: Data, draw: random.Random, fill: bytes) -> Torn:
    size = draw.choice(_BLOCKS)
    blocks = range(event.offset // size, (event.offset + len(event.data) - 1) // size + 1)
    kept = frozenset(block for block in blocks if draw.random() < 0.5)
    return Torn(kept, size, fill)


def _leads_out(event: Any) -> bool:
    return isinstance(event, Entry) and len(set(event.folders)) > 1


def campaign(
    operation: str, scratch: Path, models: tuple[Model, ...] = MODELS, samples: int = 6, every: int = 1
) -> Ledger:
    """Cut the power after every call, or after every so many of them."""
    bench, ledger = Bench(operation, scratch), Ledger()
    log = record(bench)
    for model in models:
        _cut_everywhere(bench, log, model, ledger, samples, every)
    return ledger


def _cut_everywhere(bench: Bench, log: Log, model: Model, ledger: Ledger, samples: int, every: int) -> None:
    draw, tried = random.Random(0), set()
    points = range(1, len(log.events) + 1)
    for point in points if every == 1 else sorted({*points[::every], points[-1]}):
        promised = promise(log, point)
        for choice in choices(log, point, pending(log, point), model, draw, samples):
            files = state(log, point, choice.lost, choice.torn, choice.split)
            if _is_new(files, promised, tried):
                fault = f"{model}: {choice.fault}"
                try:
                    outcome = judge(bench, files, promised)
                except oracle.WrongError as error:
                    ledger.fail(PART, bench.operation.name, fault, f"event {point}", f"{error} ({choice})")
                else:
                    ledger.add(PART, bench.operation.name, fault, "any", outcome)


def promise(log: Log, point: int) -> int:
    """What was promised to be safe before a point."""
    return max((event.number for event in log.events[:point] if isinstance(event, Mark)), default=0)


def judge(bench: Bench, files: dict[str, bytes | None], promised: int) -> str:
    """Do the rest of the operation on a state of the disk; `WrongError` where it does not lead to the right bytes."""
    out = bench.clear()
    write_out(files, out)
    found = oracle.check_standing(bench, out, finished=promised == FINISHED)
    return oracle.check_resumed(bench, out, promised if bench.operation.goes_on and found is None else 0)


def _is_new(files: dict[str, bytes | None], promised: int, tried: set[bytes]) -> bool:
    digest = hashlib.blake2b(str(promised).encode())
    for name, data in sorted(files.items()):
        digest.update(name.encode() + (b"/" if data is None else b"=" + hashlib.blake2b(data).digest()))
    if digest.digest() in tried:
        return False
    tried.add(digest.digest())
    return True


def missed_by(bench: Bench, log: Log, forgotten: int, model: Model, samples: int = 2) -> str | None:
    """What goes wrong where one flush, by its number, was forgotten; None where nothing that was tried does."""
    draw, tried = random.Random(0), set()
    for point in range(forgotten + 1, len(log.events) + 1):
        promised = promise(log, point)
        waiting = pending(log, point, forgotten)
        if waiting == pending(log, point):
            continue  # as with the flush
        for choice in choices(log, point, waiting, model, draw, samples):
            files = state(log, point, choice.lost, choice.torn, choice.split)
            if _is_new(files, promised, tried):
                try:
                    judge(bench, files, promised)
                except oracle.WrongError as error:
                    return f"{choice.fault} after event {point}: {error}"
    return None


def forgetting(operation: str, scratch: Path, only: str = "") -> Ledger:
    """Forget each flush in turn, of files whose name ends so, and count whether that is noticed."""
    bench, ledger = Bench(operation, scratch), Ledger()
    log = record(bench)
    for index, event in enumerate(log.events):
        if isinstance(event, Sync) and event.name.endswith(only):
            noticed = missed_by(bench, log, index, "unordered")
            ledger.add(FORGOTTEN, operation, f"flush {event.name}", str(index), "noticed" if noticed else "not noticed")
    return ledger


__all__ = ["campaign", "contents", "forgetting", "missed_by", "record"]
