"""What training steps are measured on: random images or a folder of them, with counterparts that live somewhere."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from diffcore_gpu import CounterpartStore, DiffCoreMix, IndexedDataset
from diffcore_gpu.benchmarks.harness.random_data import CLASSES, FORMATS, MEAN, STD, random_store, random_store_for
from diffcore_gpu.benchmarks.steps.batches import Feed, folder_feed, random_feed
from diffcore_gpu.errors import BenchmarkError
from diffcore_gpu.store.residency import Residency


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
        return IndexedDataset(torchvision.datasets.ImageFolder(real, augment))
    except FileNotFoundError as error:
        raise BenchmarkError(
            f"--real {real}: holds no folder for each class with images in it ({str(error).splitlines()[0]})."
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
