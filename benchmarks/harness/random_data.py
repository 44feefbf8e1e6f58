"""Stores and batches of random pixels, which the benchmarks measure with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from diffcore_gpu import CounterpartStore, CounterpartWriter

CLASSES = 200
ROWS = 512
"""Rows of a random store, one for each of as many samples: more than a GPU's cache holds."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "uint8": torch.uint8,
}


def random_store(path: Path, size: int, rows: int = ROWS) -> CounterpartStore:
    """Write and open a store of `rows` counterparts 3×size×size, one for each of as many samples."""
    generator = torch.Generator().manual_seed(0)
    labels = [sample % CLASSES for sample in range(rows)]
    with CounterpartWriter(
        path,
        num_samples=rows,
        image_shape=(3, size, size),
        class_names=[f"class {label:03d}" for label in range(CLASSES)],
        labels=labels,
    ) as writer:
        for sample, label in enumerate(labels):
            image = torch.randint(0, 256, (3, size, size), generator=generator, dtype=torch.uint8)
            writer.add_pair(sample, writer.add_row(image, label=label), 0.8)
    store = CounterpartStore.open(path).bind(labels, labels=labels)
    store.images(range(rows))  # the system's cache holds every page, as after the first epoch
    return store


def random_store_for(path: Path, size: int, labels: Sequence[int], num_classes: int) -> CounterpartStore:
    """Write and open a store of random counterparts for a dataset, one for each sample.

    A row serves several samples of its class, so that there are about `ROWS` rows for any number of samples.

    Args:
        path: where.
        size: height and width of the rows.
        labels: of the dataset, each in [0, num_classes).
        num_classes: K.
    """
    generator = torch.Generator().manual_seed(0)
    each = max(1, ROWS // num_classes)
    rows: dict[int, list[int]] = {label: [] for label in range(num_classes)}
    with CounterpartWriter(
        path,
        num_samples=len(labels),
        image_shape=(3, size, size),
        class_names=[f"class {label:03d}" for label in range(num_classes)],
        labels=list(labels),
    ) as writer:
        turn = dict.fromkeys(rows, 0)
        for sample, label in enumerate(labels):
            if len(rows[label]) < each:
                image = torch.randint(0, 256, (3, size, size), generator=generator, dtype=torch.uint8)
                rows[label].append(writer.add_row(image, label=label))
            writer.add_pair(sample, rows[label][turn[label] % len(rows[label])], 0.8)
            turn[label] += 1
    return CounterpartStore.open(path).bind(labels, labels=labels)


def random_images(batch: int, size: int, dtype: str, memory_format: str, device: torch.device) -> Tensor:
    """[batch, 3, size, size] on the device, normal or, for uint8, uniform."""
    generator = torch.Generator(device).manual_seed(batch)
    shape = (batch, 3, size, size)
    if dtype == "uint8":
        images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8, device=device)
    else:
        images = torch.randn(shape, generator=generator, device=device).to(DTYPES[dtype])
    return images.to(memory_format=FORMATS[memory_format])
