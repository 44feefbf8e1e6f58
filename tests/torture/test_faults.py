"""A fault at every call that changes the disk: what stands there is whole, and the rest leads to the same bytes."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.torture.faults import FAULTS
from tests.torture.ledger import Ledger
from tests.torture.operations import OPERATIONS

QUICK = {"write": 2, "append": 2, "merge": 1, "prune": 1, "pack": 2, "generate": 2}


@pytest.mark.torture_quick
def test_a_writer_killed_at_every_call(run_campaign: Callable[..., Ledger]) -> None:
    found = run_campaign("faults", operation="write", faults=["killed", "killed amid"])
    assert found.outcomes()["killed, then identical"] == found.total > 80


@pytest.mark.torture_quick
@pytest.mark.parametrize("operation", QUICK)
def test_some_faults(run_campaign: Callable[..., Ledger], operation: str) -> None:
    run_campaign("faults", operation=operation, most=QUICK[operation])


@pytest.mark.torture
@pytest.mark.parametrize("operation", ["write", "append", "convert", "pack", "generate"])
def test_killed_again_and_again(run_campaign: Callable[..., Ledger], operation: str) -> None:
    found = run_campaign("faults:again", operation=operation, cases=24)
    assert len({times for _, _, _, times, _ in found.cases}) > 2


@pytest.mark.torture
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_fault_at_every_call(run_campaign: Callable[..., Ledger], operation: str) -> None:
    most = int(os.environ.get("TORTURE_MOST", "1000"))  # of each fault, where there is little time
    found = run_campaign("faults", operation=operation, most=most)
    assert {fault for _, _, fault, _, _ in found.cases} >= FAULTS.keys() - {"unreadable"}
    outcomes = found.outcomes()
    assert outcomes["killed, then identical"] > min(10, most)
    assert outcomes["refused, then identical"] > min(40, most)
