"""Damaged work is resumed to the same bytes or refused; of a damaged store what is read is right, or it is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.torture.ledger import Ledger

RESUMED = ("write", "append", "convert", "pack", "generate")
FINISHED = ("write", "append", "merge", "convert to WebP", "pack")


@pytest.mark.torture_quick
@pytest.mark.parametrize("operation", ["write", "append", "pack", "generate"])
def test_some_damaged_work(run_campaign: Callable[..., Ledger], operation: str) -> None:
    outcomes = run_campaign("damage", operation=operation, cases=100).outcomes()
    assert min(outcomes["identical"], outcomes["refused"]) > 5


@pytest.mark.torture
@pytest.mark.parametrize("operation", RESUMED)
def test_damaged_work(run_campaign: Callable[..., Ledger], operation: str) -> None:
    outcomes = run_campaign("damage", operation=operation, cases=2000, first=1000).outcomes()
    assert min(outcomes["identical"], outcomes["refused"]) > 300


@pytest.mark.torture_quick
def test_some_damaged_stores(run_campaign: Callable[..., Ledger]) -> None:
    outcomes = run_campaign("damage:finished", operation="write", cases=300).outcomes()
    assert min(outcomes["right"], outcomes["refused"]) > 20


@pytest.mark.torture
@pytest.mark.parametrize("operation", FINISHED)
def test_damaged_stores(run_campaign: Callable[..., Ledger], operation: str) -> None:
    outcomes = run_campaign("damage:finished", operation=operation, cases=1500, first=1000).outcomes()
    assert min(outcomes["right"], outcomes["refused"]) > 100
