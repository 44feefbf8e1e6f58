"""What training steps are measured on: random images or a folder of them, with counterparts that live somewhere.

Their batches go through all rows of a store, or come from a dataset by its loader.

All methods of a part share one `Feed`. Where the counterparts are not in the memory of the device that mixes, the
batches of every method come through a `PrefetchLoader`, vanilla steps too, and that of this library's method brings the
counterparts along; so what differs between the methods is the counterparts alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffcore_gpu import CounterpartStore, DiffCoreMix, IndexedDataset, PrefetchLoader
from diffcore_gpu.baselines import Batch
from diffcore_gpu.benchmarks.harness.random_data import (
    CLASSES,
    FORMATS,
    MEAN,
    STD,
    random_images,
    random_store,
    random_store_for,
)
from diffcore_gpu.benchmarks.training.loading import augmentation
from diffcore_gpu.errors import BenchmarkError, clause
from diffcore_gpu.store.residency import Residency

_PREFETCH = 2
"""Batches that each worker holds ready, torch's default."""

Sent = tuple[Tensor, Tensor, Tensor]
"""Images, labels and index, as a loader yields them."""


class Fed:
    """Batches of one method.

    Args:
        batches: without end, on the host or the device.
        device: where they go.
        memory_format: theirs there.
        ahead: batches that may lie ready when a row of steps begins.
    """

    def __init__(
        self, batches: Iterator[Sent], device: torch.device, memory_format: torch.memory_format, ahead: int
    ) -> None:
        self.ahead = ahead
        self._batches, self._device, self._format = batches, device, memory_format

    def next(self) -> tuple[Batch, float]:
        """The next batch on its way to the device, and the seconds that the host waited for it."""
        start = time.perf_counter()
        images, labels, index = next(self._batches)
        waited = time.perf_counter() - start
        images = self._sent(images).contiguous(memory_format=self._format)
        return Batch(images, self._sent(labels), self._sent(index)), waited

    def _sent(self, values: Tensor) -> Tensor:
        return values.to(self._device, non_blocking=True)


class Feed:
    """Where all methods of a part get their batches from.

    Args:
        begin: batches without end for one more method.
        device: where they go.
        memory_format: theirs there.
        ahead: batches that `begin` may hold ready.
        prefetch: bring them by a `PrefetchLoader`.
        waits: whether there is a loader that a step may wait for, without `prefetch`.
    """

    def __init__(
        self,
        begin: Callable[[], Iterator[Sent]],
        device: torch.device,
        memory_format: torch.memory_format,
        *,
        ahead: int = 0,
        prefetch: bool = False,
        waits: bool = False,
    ) -> None:
        self.waits = waits or prefetch
        self._begin, self._device, self._format = begin, device, memory_format
        self._ahead, self._prefetch = ahead, prefetch
        self._open: list[Generator[Any, None, None]] = []

    def batches(self, mix: DiffCoreMix | None = None) -> Fed:
        """Batches for one more method.

        Args:
            mix: that will mix each of them once, and whose counterparts come along with `prefetch`.
        """
        batches, ahead = self._to_close(self._begin()), self._ahead
        if self._prefetch:
            loader = PrefetchLoader(batches, mix, self._device)
            batches, ahead = self._to_close(iter(loader)), ahead + loader.depth
        return Fed(batches, self._device, self._format, ahead)

    def _to_close(self, batches: Iterator[Sent]) -> Iterator[Sent]:
        if isinstance(batches, Generator):
            self._open.append(batches)
        return batches

    def close(self) -> None:
        """End the threads and processes that make batches."""
        for batches in reversed(self._open):
            batches.close()


def walk(samples: int, batch_size: int) -> list[Tensor]:
    """Indices of batches that go through all samples, in another order each time, until all were taken equally often.

    Args:
        samples: indices are in [0, samples).
        batch_size: of each batch.

    Returns:
        int64 [batch_size] each, to be repeated without end.
    """
    generator = torch.Generator().manual_seed(0)
    times = batch_size // math.gcd(samples, batch_size)
    return list(torch.cat([torch.randperm(samples, generator=generator) for _ in range(times)]).split(batch_size))


def random_feed(
    store: CounterpartStore,
    batch_size: int,
    size: int,
    device: torch.device,
    memory_format: torch.memory_format,
    *,
    prefetch: bool,
) -> Feed:
    """The same random images in every batch, with index and labels that go through the whole store.

    So the counterparts of a batch are read as in training, where a row comes once in an epoch, and not out of the cache
    that the batch before left. Every method goes through the same batches. They lie on the device, and fetching them
    costs nothing; with `prefetch`, in page-locked memory of the host.
    """
    images = random_images(batch_size, size, "uint8", "contiguous", torch.device("cpu")).float() / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    images = ((images - mean) / std).contiguous(memory_format=memory_format)

    def placed(values: Tensor) -> Tensor:
        if not prefetch:
            return values.to(device)
        return values.pin_memory() if device.type == "cuda" else values

    images = placed(images)
    made = [(images, placed(store.labels[index]), placed(index)) for index in walk(store.num_samples, batch_size)]
    return Feed(lambda: cycle(made), device, memory_format, prefetch=prefetch)


def folder_feed(
    dataset: IndexedDataset,
    batch_size: int,
    workers: int,
    device: torch.device,
    memory_format: torch.memory_format,
    *,
    prefetch: bool,
) -> Feed:
    """Batches of a dataset without end, shuffled, from one loader with workers for all methods.

    Args:
        dataset: yields image, label, index.
        batch_size: of each batch; short ones are left out.
        workers: processes; 0: the one that trains loads its batches itself.
        device: where the batches go.
        memory_format: theirs there.
        prefetch: bring them by a `PrefetchLoader`.

    Raises:
        BenchmarkError: the dataset has fewer images than a batch.
    """
    if len(dataset) < batch_size:
        raise BenchmarkError(f"--real holds {len(dataset)} images, too few for a batch of {batch_size}.")
    loader = torch.utils.data.DataLoader(
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

    def without_end() -> Generator[Any, None, None]:
        try:
            while True:
                yield from loader
        finally:
            loader._iterator = None  # ends the workers

    shared = without_end()
    return Feed(
        lambda: shared, device, memory_format, ahead=workers * _PREFETCH, prefetch=prefetch, waits=True
    )  # fmt: skip


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


def make_input(real: Path | None, store: Path | None, size: int, folder: Path) -> Input:
    """What is trained on.

    Args:
        real: an ImageFolder; None: random images.
        store: its counterparts; None: random ones.
        size: height and width.
        folder: that a random store is written into.

    Raises:
        BenchmarkError: a store without real images, no images in the folder, or a store of another size.
        StoreError: the store was not made for these images.
    """
    if real is None:
        if store is not None:
            raise BenchmarkError("--store needs --real, the images that it was made for.")
        return Input(random_store(folder / "store", size), CLASSES, None)
    dataset = _image_folder(real, size)
    classes = len(dataset.classes)
    if store is None:
        return Input(random_store_for(folder / "store", size, dataset.targets, classes), classes, dataset)
    opened = CounterpartStore.open(store).bind(dataset)
    if opened.image_shape != (3, size, size):
        held = "×".join(map(str, opened.image_shape[1:]))
        raise BenchmarkError(f"{opened.path} holds images of {held}, but --size is {size}; make them equal.")
    return Input(opened, classes, dataset)


def _image_folder(real: Path, size: int) -> IndexedDataset:
    import torchvision

    try:
        return IndexedDataset(torchvision.datasets.ImageFolder(real, augmentation("imagenet", size)))
    except FileNotFoundError as error:
        raise BenchmarkError(
            f"--real {real}: holds no folder for each class with images in it ({clause(error)})."
        ) from None


def make_feed(
    made: Input, batch_size: int, device: torch.device, *, size: int, memory_format: str, workers: int, prefetch: bool
) -> Feed:
    """Batches of one size: of the images that `made` holds, or of random numbers.

    Args:
        made: what is trained on.
        batch_size: images of each.
        device: that trains.
        size: height and width of random images.
        memory_format: one of `FORMATS`.
        workers: of the loader of images.
        prefetch: bring them by a `PrefetchLoader`.
    """
    layout = FORMATS[memory_format]
    if made.dataset is None:
        return random_feed(made.store, batch_size, size, device, layout, prefetch=prefetch)
    return folder_feed(made.dataset, batch_size, workers, device, layout, prefetch=prefetch)


def make_ours(made: Input, residency: Residency, device: torch.device) -> tuple[DiffCoreMix, bool]:
    """This library's transform, and whether its batches must come through a `PrefetchLoader`.

    They do where "host" or "disk" was asked for, and where "auto" found that a GPU's memory does not hold the store.

    Raises:
        StoreError: the store does not fit into the memory that `residency` asks for.
    """
    mix = DiffCoreMix(made.store, residency=residency, mean=MEAN, std=STD).to(device)
    return mix, mix.residency != "device" and (device.type == "cuda" or residency != "auto")
