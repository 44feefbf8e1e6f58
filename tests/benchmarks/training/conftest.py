"""What the tests of the accuracy runs share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from diffcore_gpu import CounterpartStore
from diffcore_gpu.benchmarks.training.data import Data, open_data
from tests.benchmarks.training.folders import write_dataset, write_store


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The batches are too small for several threads to be worth their waiting for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("accuracy") / "trees")


@pytest.fixture(scope="session")
def store(dataset: Path) -> CounterpartStore:
    return CounterpartStore.open(write_store(dataset, dataset.with_name("store")))


@pytest.fixture
def data(dataset: Path) -> Data:
    return open_data(dataset, ["val", "test"], None)
