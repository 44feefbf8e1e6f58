"""What may be found after a fault, and what may not."""

from __future__ import annotations

import traceback
from pathlib import Path

from diffcore_gpu.errors import DiffcoreError
from diffcore_gpu.store import CounterpartStore
from tests.torture.operations import FINISHED, STORE, Bench, contents, store_of


class WrongError(AssertionError):
    """A third thing: neither what an undisturbed run leaves, nor a refusal in one plain sentence."""


def is_plain(error: DiffcoreError) -> bool:
    """Whether the message is one line that ends with a period, or with a question that names the mend."""
    text = str(error)
    return text.endswith((".", "?")) and "\n" not in text and len(text) > 20


def check_standing(bench: Bench, out: Path, *, finished: bool = False) -> str | None:
    """Before anything is mended: the store that stands there is whole, and the old one or the new one; its checksum.

    Args:
        bench: the operation.
        out: the folder of stores.
        finished: whether the operation has ended, so that it must be the new one.

    Raises:
        WrongError: it is something else.
    """
    try:
        found = store_of(out)
    except DiffcoreError as error:
        if not bench.operation.atomic:
            return None
        raise WrongError(f"the store that stands there is not whole: {error}") from error
    allowed = {bench.new} if finished else {bench.old, bench.new}
    if found not in allowed:
        raise WrongError(f"the store is {_named(bench, found)}")
    return found


OLD_PART = "identical, the damage in the old part stays"


def check_resumed(bench: Bench, out: Path, promised: int = 0, refusals: list[str] | None = None) -> str:
    """Do the rest without faults: "identical", or, where that is allowed, "refused".

    An operation that adds to a finished store does not read its shards again: `OLD_PART` is the outcome where one of
    those was damaged and `verify` says so.

    Args:
        bench: the operation.
        out: the folder of stores.
        promised: rows that were safe, or `FINISHED`.
        refusals: is given what a refusal says; None: the work must not be refused, as after a kill or a power cut.

    Raises:
        WrongError: another exception, other bytes, or fewer rows than were promised.
    """
    try:
        found = bench.run(out)
    except DiffcoreError as error:
        if not is_plain(error):
            raise WrongError(f"refused, but not in one plain sentence: {error}") from error
        if refusals is None:
            raise WrongError(f"refused: {error}") from error
        refusals.append(str(error))
        return "refused"
    except Exception as error:
        raise WrongError(f"resumed with {type(error).__name__}: {_last(error)}") from error
    if found < promised:
        raise WrongError(f"{found} rows were found where {promised} had been safe")
    there = contents(out)
    difference = _difference(bench, there)
    if difference and refusals is not None and _only_the_old_part(bench, out, there):
        return OLD_PART
    if difference:
        raise WrongError(f"resumed to another result: {difference}")
    return "identical"


def check_ended(bench: Bench, out: Path) -> None:
    """After a run that ended without an error: nothing but the result is there."""
    difference = _difference(bench, contents(out))
    if difference:
        raise WrongError(f"ended without an error with another result: {difference}")
    check_standing(bench, out, finished=True)


def _difference(bench: Bench, found: dict[str, bytes]) -> str:
    missing, more = bench.expected.keys() - found.keys(), found.keys() - bench.expected.keys()
    other = [name for name in bench.expected if name in found and found[name] != bench.expected[name]]
    parts = (("missing", missing), ("more", more), ("different", other))
    return "; ".join(f"{what}: {', '.join(sorted(names))}" for what, names in parts if names)


def _only_the_old_part(bench: Bench, out: Path, found: dict[str, bytes]) -> bool:
    """Whether what differs was finished before, and is either refused by `verify` or no part of the store any more."""
    names = {name for name in bench.expected.keys() | found.keys() if found.get(name) != bench.expected.get(name)}
    if not names <= contents(bench.before).keys():
        return False
    try:
        store_of(out)
    except DiffcoreError:
        return True
    needed = {file.name for file in CounterpartStore.open(out / STORE).manifest.files}
    return not needed & {Path(name).name for name in names}


def _named(bench: Bench, checksum: str | None) -> str:
    return {None: "missing", bench.old: "the old one", bench.new: "the new one"}.get(checksum, "neither old nor new")


def _last(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{error} ({Path(frame.filename).name}:{frame.lineno})"


__all__ = ["FINISHED", "OLD_PART", "WrongError", "check_ended", "check_resumed", "check_standing", "is_plain"]
