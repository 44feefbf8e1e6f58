"""A small store's content, the same in every process, and what a store folder holds byte for byte."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from diffcore_gpu.store import CounterpartStore, CounterpartWriter

SHAPE = (3, 4, 6)
NUM_SAMPLES = 12
NUM_ROWS = 23
LABELS = [sample % 3 for sample in range(NUM_SAMPLES)]
NAMES = [f"class {sample % 3}/{sample:03d}.jpg" for sample in range(NUM_SAMPLES)]


def arguments(**changes: Any) -> dict[str, Any]:
    """Arguments of a writer of the small store, with changes."""
    return {
        "num_samples": NUM_SAMPLES,
        "image_shape": SHAPE,
        "class_names": ["red", "green", "blue"],
        "labels": LABELS,
        "file_names": NAMES,
        "metadata": {"model": "test", "guidance": 7.5},
        "rows_per_shard": 5,
        **changes,
    }


def image(row: int) -> np.ndarray:
    """The image of a row: noise that depends on the row alone."""
    return np.random.default_rng(row).integers(0, 256, SHAPE, dtype=np.uint8)


def pairs_of(row: int) -> Iterator[tuple[int, float]]:
    """The (sample, similarity) pairs of a row; sample 11 has none."""
    for sample in range(row % 3, NUM_SAMPLES - 1, 3):
        if (sample + row) % 4:
            yield sample, math.nan if (sample * row) % 5 == 1 else ((sample * 7 + row * 5) % 11) / 11


def add(writer: CounterpartWriter, row: int) -> None:
    """Add one row and its pairs."""
    prompt = None if row % 6 == 5 else f"a “{row % 4}” in the snow"
    assert writer.add_row(image(row), label=row % 3, prompt=prompt, seed=row * 1000 - 5, attempt=row % 2) == row
    for sample, similarity in pairs_of(row):
        writer.add_pair(sample, row, similarity)


def complete(writer: CounterpartWriter, num_rows: int = NUM_ROWS) -> None:
    """Add whatever a writer lacks; a resumed one continues where it is."""
    if not writer.finished:
        for row in range(writer.num_rows, num_rows):
            add(writer, row)
            if row % 7 == 6:
                writer.flush()
    writer.update_metadata({"generated": num_rows})


def build(path: Path, **changes: Any) -> CounterpartStore:
    """Make the small store, undisturbed."""
    with CounterpartWriter(path, **arguments(**changes)) as writer:
        complete(writer)
    return CounterpartStore.open(path)


class InterruptionError(Exception):
    """What ends the work of an interrupted writer."""


@contextlib.contextmanager
def interrupted(path: Path, **changes: Any) -> Iterator[CounterpartWriter]:
    """A writer of the small store whose block ends with an exception."""
    with contextlib.suppress(InterruptionError), CounterpartWriter(path, **arguments(**changes)) as writer:
        yield writer
        raise InterruptionError


def contents(path: Path) -> dict[str, bytes]:
    """Every file under a folder, by its relative name."""
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}
