"""A store that is used without end keeps no files, threads or memory."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.torture.ledger import Ledger


@pytest.mark.torture
def test_soak(run_campaign: Callable[..., Ledger]) -> None:
    """For a minute, or for as many as `TORTURE_MINUTES` says."""
    run_campaign("soak", seconds=60 * float(os.environ.get("TORTURE_MINUTES", "1")))
