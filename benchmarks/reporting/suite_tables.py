"""Which tables belong to which suite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diffcore_gpu.benchmarks.reporting.accuracy_tables import trade_off_tables, train_tables
from diffcore_gpu.benchmarks.reporting.collection import Loaded, complete
from diffcore_gpu.benchmarks.reporting.data_tables import (
    gallery_tables,
    generation_tables,
    loader_tables,
    store_access_tables,
)
from diffcore_gpu.benchmarks.reporting.generic_table import generic_tables
from diffcore_gpu.benchmarks.reporting.step_tables import batch_time_tables, overhead_tables
from diffcore_gpu.benchmarks.reporting.tables import Table
from diffcore_gpu.benchmarks.reporting.transform_tables import (
    bandwidth_tables,
    geometry_tables,
    host_overhead_tables,
    peers_tables,
    residency_tables,
)

TABLES: dict[str, Callable[[dict[str, Any]], list[Table]]] = {
    "overhead": overhead_tables,
    "batch-time": batch_time_tables,
    "overhead-accuracy": trade_off_tables,
    "batch-gallery": gallery_tables,
    "loader": loader_tables,
    "train": train_tables,
    "peers": peers_tables,
    "bandwidth": bandwidth_tables,
    "host-overhead": host_overhead_tables,
    "geometry": geometry_tables,
    "residency": residency_tables,
    "generation": generation_tables,
    "store-access": store_access_tables,
}
"""Any other suite has `generic_tables`."""


def tables_of(loaded: Loaded) -> list[Table]:
    """The tables of a result.

    Raises:
        BenchmarkError: it lacks a field.
    """
    with complete(loaded.path, loaded.suite):
        return TABLES.get(loaded.suite, generic_tables)(loaded.result)
