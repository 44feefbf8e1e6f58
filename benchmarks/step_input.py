"""The batches that training steps are measured on: random ones on the device, or a folder of images and its loader."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffcore_gpu import CounterpartStore, IndexedDataset
from diffcore_gpu.baselines import Batch
from diffcore_gpu.benchmarks.arguments import SuiteParser, not_negative
from diffcore_gpu.benchmarks.errors import BenchmarkError
from diffcore_gpu.benchmarks.random_data import (
    CLASSES,
    FORMATS,
    MEAN,
    ROWS,
    STD,
    random_images,
    random_store,
    random_store_for,
)
from diffcore_gpu.benchmarks.training_steps import Batches, OneBatch

_PREFETCH = 2
"""Batches that each worker holds ready, torch's default."""


class Input(NamedTuple):
    """What is trained on.

    Attributes:
        store: counterparts of the samples.
        num_classes: K.
        dataset: of real images; None: random ones.
    """

    store: CounterpartStore
    num_classes: int
    dataset: IndexedDataset | None


def add_input_options(parser: SuiteParser) -> None:
    """``--data``, ``--store`` and ``--workers``."""
    parser.add_argument("--data", type=Path, default=None, help="ImageFolder to train on instead of random images")
    parser.add_argument("--store", type=Path, default=None, help="its counterparts (default: random ones)")
    parser.add_argument(
        "--workers", type=not_negative, default=2, help="of the loader with --data (default: %(default)s)"
    )


def make_input(options: argparse.Namespace, folder: Path) -> Input:
    """What the options ask for; a random store is written into `folder`.

    Raises:
        BenchmarkError: --store without --data, no images in it, or a store of another size.
        StoreError: the store was not made for these images.
    """
    if options.data is None:
        if options.store is not None:
            raise BenchmarkError("--store needs --data, the images that it was made for.")
        return Input(random_store(folder / "store", options.size), CLASSES, None)
    dataset = _image_folder(options.data, options.size)
    classes = len(dataset.classes)
    if options.store is None:
        return Input(random_store_for(folder / "store", options.size, dataset.targets, classes), classes, dataset)
    store = CounterpartStore.open(options.store).bind(dataset)
    if store.image_shape != (3, options.size, options.size):
        held = "×".join(map(str, store.image_shape[1:]))
        raise BenchmarkError(f"{store.path} holds images of {held}, but --size is {options.size}; make them equal.")
    return Input(store, classes, dataset)


def _image_folder(data: Path, size: int) -> IndexedDataset:
    import torchvision
    from torchvision.transforms import v2

    augment = v2.Compose(
        [
            v2.RandomResizedCrop(size, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    try:
        return IndexedDataset(torchvision.datasets.ImageFolder(data, augment))
    except FileNotFoundError as error:
        raise BenchmarkError(
            f"--data {data}: holds no folder for each class with images in it ({str(error).splitlines()[0]})"
        ) from None


class FolderBatches:
    """Batches of a dataset without end, shuffled, from a loader with workers.

    Args:
        dataset: yields image, label, index.
        batch_size: of each batch; short ones are left out.
        workers: processes; 0: the one that trains loads its batches itself.
        device: where the batches go.
        memory_format: theirs there.

    Raises:
        BenchmarkError: the dataset has fewer images than a batch.
    """

    def __init__(
        self,
        dataset: IndexedDataset,
        batch_size: int,
        workers: int,
        device: torch.device,
        memory_format: torch.memory_format,
    ) -> None:
        if len(dataset) < batch_size:
            raise BenchmarkError(f"--data holds {len(dataset)} images, too few for a batch of {batch_size}.")
        self.ahead = workers * _PREFETCH
        self._device, self._format = device, memory_format
        self._loader = torch.utils.data.DataLoader(
            dataset,
            batch_size,
            shuffle=True,
            num_workers=workers,
            prefetch_factor=_PREFETCH if workers else None,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
            drop_last=True,
            generator=torch.Generator().manual_seed(0),
        )
        self._batches = self._without_end()

    def _without_end(self) -> Iterator[Any]:
        while True:
            yield from self._loader

    def next(self) -> tuple[Batch, float]:
        """The next batch on its way to the device, and the seconds that the host waited for the loader."""
        start = time.perf_counter()
        images, labels, index = next(self._batches)
        waited = time.perf_counter() - start
        return Batch(
            self._sent(images).contiguous(memory_format=self._format), *map(self._sent, (labels, index))
        ), waited

    def _sent(self, values: Tensor) -> Tensor:
        return values.to(self._device, non_blocking=True)

    def close(self) -> None:
        """End the workers."""
        self._batches.close()  # type: ignore[attr-defined]
        self._loader._iterator = None


def make_batches(made: Input, options: argparse.Namespace, batch_size: int, device: torch.device) -> Batches:
    """Batches of one size: of the images that `made` holds, or one of random numbers."""
    memory_format = FORMATS[options.format]
    if made.dataset is not None:
        return FolderBatches(made.dataset, batch_size, options.workers, device, memory_format)
    images = random_images(batch_size, options.size, "uint8", "contiguous", device).float() / 255
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (MEAN, STD))
    index = torch.arange(batch_size, device=device) % ROWS
    return OneBatch(Batch(((images - mean) / std).contiguous(memory_format=memory_format), index % CLASSES, index))
