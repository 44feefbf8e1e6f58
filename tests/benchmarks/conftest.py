"""What the tests of the benchmarks share."""

from __future__ import annotations

import pytest

from diffcore_gpu import CounterpartStore
from diffcore_gpu.benchmarks.harness.random_data import random_store


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> CounterpartStore:
    """Eight rows of 3×32×32."""
    return random_store(tmp_path_factory.mktemp("stores") / "small", 32, rows=8)
