"""The benchmarks are programs that import one another by name, so their folder goes on the path."""

import sys
from pathlib import Path

import pytest

from diffcore_gpu import CounterpartStore

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> CounterpartStore:
    """Eight rows of 3×32×32."""
    import random_data

    return random_data.random_store(tmp_path_factory.mktemp("stores") / "small", 32, rows=8)
