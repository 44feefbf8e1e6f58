"""Hostile variants of every file that is read are read or refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.torture.fuzzing import CORPUS
from tests.torture.ledger import Ledger


@pytest.mark.torture_quick
def test_some_variants_of_every_format(run_campaign: Callable[..., Ledger]) -> None:
    found = run_campaign("fuzzing", cases=40)
    formats = {name for _, name, _, _, _ in found.cases}
    assert len(formats) == 13
    assert {folder.name for folder in CORPUS.iterdir()} < formats


@pytest.mark.torture
def test_variants_of_every_format(run_campaign: Callable[..., Ledger]) -> None:
    run_campaign("fuzzing", cases=2000, first=1000)
