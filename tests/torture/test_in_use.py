"""A store whose files change while it is used gives the right images, or an error that names the file."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.torture.ledger import Ledger

FILES = ["shard", "rows", "pairs", "store.json"]


@pytest.mark.torture_quick
def test_a_shard_changes_in_use(run_campaign: Callable[..., Ledger]) -> None:
    outcomes = run_campaign("in_use", users=["images", "DiffCoreMix"]).outcomes()
    assert min(outcomes["right"], outcomes["refused"]) > 5


@pytest.mark.torture
def test_any_file_changes_in_use(run_campaign: Callable[..., Ledger]) -> None:
    run_campaign("in_use", users=["images", "columns", "DiffCoreMix", "PrefetchLoader"], targets=FILES)


@pytest.mark.torture
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_shard_changes_under_the_workers_of_a_loader(run_campaign: Callable[..., Ledger], method: str) -> None:
    only = None if method == "fork" else ["cut", "replaced", "written over", "deleted"]
    run_campaign("in_use", users=[f"DataLoader, {method}"], only=only)


@pytest.mark.torture
def test_a_shard_changes_at_any_moment(run_campaign: Callable[..., Ledger]) -> None:
    run_campaign("in_use:amid", cases=40)
