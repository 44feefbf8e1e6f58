"""The warm process that runs campaigns, and where their counts go."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.torture.ledger import Ledger
from tests.torture.server import serving


@pytest.fixture(scope="session")
def ledger() -> Ledger:
    """Counts all cases of this process; they are saved after each campaign where the environment says so."""
    return Ledger()


@pytest.fixture(scope="session")
def run_campaign(ledger: Ledger) -> Iterator[Callable[..., Ledger]]:
    """A function that runs a campaign, counts its cases, and fails where one went wrong."""
    with serving() as serve:

        def run(name: str, **arguments: object) -> Ledger:
            found = serve(name, **arguments)
            ledger.include(found)
            ledger.save()
            assert not found.wrong, found.report()
            assert found.total > 0
            return found

        yield run
