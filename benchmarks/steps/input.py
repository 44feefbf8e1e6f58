"""What training steps are measured on: random images or a folder of them, with counterparts that live somewhere."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import torch

from diffcore_gpu import CounterpartStore, DiffCoreMix, IndexedDataset
from diffcore_gpu.benchmarks.harness.options import SuiteParser, not_negative
from diffcore_gpu.benchmarks.harness.random_data import (
    CLASSES,
    FORMATS,
    MEAN,
    STD,
    random_store,
    random_store_for,
)
from diffcore_gpu.benchmarks.steps.batches import Feed, folder_feed, random_feed
from diffcore_gpu.errors import BenchmarkError, clause
from diffcore_gpu.store.residency import RESIDENCIES, Residency


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
    """``--data``, ``--store``, ``--workers`` and ``--residency``."""
    parser.add_argument("--data", type=Path, default=None, help="ImageFolder to train on instead of random images")
    parser.add_argument("--store", type=Path, default=None, help="its counterparts (default: random ones)")
    parser.add_argument(
        "--workers", type=not_negative, default=2, help="of the loader with --data (default: %(default)s)"
    )
    parser.add_argument(
        "--residency",
        choices=RESIDENCIES,
        default="auto",
        help="where diffcore-mix finds its counterparts: in the device's memory, or in the host's or on disk, with a "
        "PrefetchLoader for all methods; auto: in a GPU's memory if they fit, on the CPU mapped from disk",
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
            f"--data {data}: holds no folder for each class with images in it ({clause(error)})."
        ) from None


def make_feed(
    made: Input, options: argparse.Namespace, batch_size: int, device: torch.device, *, prefetch: bool
) -> Feed:
    """Batches of one size: of the images that `made` holds, or of random numbers.

    Args:
        made: what is trained on.
        options: of `add_input_options`, with `size` and `format`.
        batch_size: images of each.
        device: that trains.
        prefetch: bring them by a `PrefetchLoader`.
    """
    memory_format = FORMATS[options.format]
    if made.dataset is None:
        return random_feed(made.store, batch_size, options.size, device, memory_format, prefetch=prefetch)
    return folder_feed(made.dataset, batch_size, options.workers, device, memory_format, prefetch=prefetch)


def make_ours(made: Input, residency: Residency, device: torch.device) -> tuple[DiffCoreMix, bool]:
    """This library's transform, and whether its batches must come through a `PrefetchLoader`.

    They do where "host" or "disk" was asked for, and where "auto" found that a GPU's memory does not hold the store.

    Raises:
        StoreError: the store does not fit into the memory that `residency` asks for.
    """
    mix = DiffCoreMix(made.store, residency=residency, mean=MEAN, std=STD).to(device)
    return mix, mix.residency != "device" and (device.type == "cuda" or residency != "auto")
