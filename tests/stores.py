"""Small real stores for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from diffcore_gpu.store import CounterpartStore, CounterpartWriter

NUM_SAMPLES = 24
SHAPE = (3, 20, 28)
COUNTS = [0, 1, 2, 3] * 6
"""Rows of each sample."""


def write_store(
    path: Path, shape: tuple[int, int, int] = SHAPE, rows_per_shard: int = 10, more: int = 0, codec: str = "raw"
) -> CounterpartStore:
    """A bound store of random counterparts in shards; sample i is of class i % 2 and has COUNTS[i] + more rows."""
    generator = torch.Generator().manual_seed(7)
    labels = [sample % 2 for sample in range(NUM_SAMPLES)]
    with CounterpartWriter(
        path,
        num_samples=NUM_SAMPLES,
        image_shape=shape,
        class_names=["even", "odd"],
        labels=labels,
        rows_per_shard=rows_per_shard,
        codec=codec,
    ) as writer:
        for sample, count in enumerate(COUNTS):
            for k in range(count + more):
                image = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
                row = writer.add_row(image, label=labels[sample], seed=k)
                writer.add_pair(sample, row, similarity=0.5 + 0.1 * k)
    return open_bound(path)


def open_bound(path: Path, **how: Any) -> CounterpartStore:
    """Open a store and bind it to the dataset that it was made for."""
    store = CounterpartStore.open(path, **how)
    return store.bind(store.labels, labels=store.labels)
