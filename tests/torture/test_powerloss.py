"""The power is cut after every call; and the method notices where a flush was forgotten."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.torture.ledger import Ledger
from tests.torture.operations import OPERATIONS

FLUSHING = [name for name, operation in OPERATIONS.items() if operation.atomic]
FILES = (".tmp", ".part", ".bin", ".jsonl")
QUICK = ("write", "append", "prune", "pack")


@pytest.mark.torture_quick
@pytest.mark.parametrize("operation", QUICK)
def test_some_disks(run_campaign: Callable[..., Ledger], operation: str) -> None:
    run_campaign("powerloss", operation=operation, samples=1, every=3)


@pytest.mark.torture
@pytest.mark.parametrize("operation", FLUSHING)
def test_every_kind_of_disk_after_every_call(run_campaign: Callable[..., Ledger], operation: str) -> None:
    found = run_campaign("powerloss", operation=operation, samples=12)
    assert {fault.split(": ")[0] for _, _, fault, _, _ in found.cases} == {"ordered", "unordered"}


def forgotten(found: Ledger) -> dict[str, list[tuple[int, bool]]]:
    """For each file or folder, its flushes by number, and whether their lack was noticed."""
    flushes: dict[str, list[tuple[int, bool]]] = {}
    for _, _, fault, number, outcome in sorted(found.cases, key=lambda key: int(key[3])):
        flushes.setdefault(fault.removeprefix("flush "), []).append((int(number), outcome == "noticed"))
    return flushes


@pytest.mark.torture_quick
def test_a_file_that_is_renamed_without_a_flush_is_noticed(run_campaign: Callable[..., Ledger]) -> None:
    flushes = forgotten(run_campaign("powerloss:forgetting", operation="write", only=".json.tmp"))
    assert set(flushes) == {f"store/unfinished/{name}.json.tmp" for name in ("progress", "settings", "store")}
    assert all(noticed for several in flushes.values() for _, noticed in several)


@pytest.mark.torture_quick
def test_a_folder_that_is_not_flushed_after_the_last_rename_is_noticed(run_campaign: Callable[..., Ledger]) -> None:
    flushes = forgotten(run_campaign("powerloss:forgetting", operation="write", only="store"))
    first, *_, swapped, _ = (noticed for _, noticed in flushes["store"])
    assert first  # after `unfinished` was made
    assert swapped  # after store.json got its name; what follows only tidies up


@pytest.mark.torture
@pytest.mark.parametrize("operation", ["write", "append", "merge, copied", "prune", "generate, saved once"])
def test_forgotten_flushes_of_files_are_noticed(run_campaign: Callable[..., Ledger], operation: str) -> None:
    flushes = forgotten(run_campaign("powerloss:forgetting", operation=operation))
    # A report that was lost is written anew from the store, to the same bytes.
    files = {
        name: several
        for name, several in flushes.items()
        if name.endswith(FILES) and not name.endswith("report.json.tmp")
    }
    assert len(files) > 2
    assert not {name for name, several in files.items() if not any(noticed for _, noticed in several)}
    # One that follows another with nothing written between is not needed.
    assert sum(not noticed for several in files.values() for _, noticed in several) <= 2
