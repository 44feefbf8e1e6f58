"""Batches: augmentation and order that depend on seed, epoch and sample alone, so on no worker and no resume.

A sample is cropped and flipped alike in every arm of the same seed, and the arms see the samples in the same order:
what they differ by is the method.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from diffcore_gpu import IndexedDataset
from diffcore_gpu.baselines import own_draws
from diffcore_gpu.benchmarks.harness.random_data import MEAN, STD
from diffcore_gpu.benchmarks.training.data import Int64s
from diffcore_gpu.errors import BenchmarkError, clause

Key = tuple[int, int]
"""Epoch and index of a sample."""

_PADDING = 4
_RESIZED = 8 / 7
"""Size before the central crop over size of the crop: 256 for 224."""


class Use(IntEnum):
    """What a seed is for; different uses have different seeds."""

    MODEL = 1
    ORDER = 2
    AUGMENTATION = 3
    METHOD = 4
    LAYERS = 5


def seed_of(use: Use, seed: int, *numbers: int) -> int:
    """A seed in [0, 2⁶³) for a part of a run: one that goes on draws what it would have drawn.

    Args:
        use: what for.
        seed: of the run.
        numbers: such as the epoch, or epoch and sample; not negative.
    """
    key = "/".join(map(str, (int(use), seed, *numbers)))
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) >> 1


def augmentation(name: str, size: int) -> Any:
    """From a PIL image to float32 [3, size, size], normalized, at random: one of `recipe.AUGMENTATIONS`."""
    from torchvision.transforms import v2

    if name == "imagenet":
        crop = [v2.RandomResizedCrop(size)]
    else:
        crop = [v2.Resize(size), v2.CenterCrop(size), v2.RandomCrop(size, padding=_PADDING)]
    return v2.Compose([*crop, v2.RandomHorizontalFlip(), to_tensor()])


def preprocessing(name: str, size: int) -> Any:
    """The same for evaluation: resize and the central crop."""
    from torchvision.transforms import v2

    resized = round(_RESIZED * size) if name == "imagenet" else size
    return v2.Compose([v2.Resize(resized), v2.CenterCrop(size), to_tensor()])


def to_tensor() -> Any:
    """From a PIL image to float32 [3, H, W], normalized."""
    from torchvision.transforms import v2

    return v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])


class TrainingSet(Dataset[tuple[Tensor, int, int]]):
    """Augmented samples by (epoch, index).

    Args:
        dataset: (PIL image, label, index) by index.
        transform: the augmentation, which draws from torch's generator.
        seed: of the run.
    """

    def __init__(self, dataset: IndexedDataset, transform: Any, seed: int) -> None:
        self._dataset, self._transform, self._seed = dataset, transform, seed

    def __getitem__(self, key: Key) -> tuple[Tensor, int, int]:
        epoch, index = key
        image, label, index = _decoded(self._dataset, index)
        generator = torch.Generator().manual_seed(seed_of(Use.AUGMENTATION, self._seed, epoch, index))
        with own_draws(generator):
            return self._transform(image), label, index


class EvaluationSet(Dataset[tuple[Tensor, int]]):
    """Preprocessed samples of an ImageFolder."""

    def __init__(self, dataset: Any, transform: Any) -> None:
        self._dataset, self._transform = dataset, transform

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = _decoded(self._dataset, index)
        return self._transform(image), label


def _decoded(dataset: Any, index: int) -> Any:
    try:
        return dataset[index]
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for a broken file
        path = dataset.samples[index][0]
        raise BenchmarkError(f"{path}: cannot be decoded ({clause(error)}); mend or remove it.") from error


class EpochBatches(Sampler[list[Key]]):
    """The batches of one epoch, in an order that depends on seed and epoch alone.

    The incomplete batch at the end is left out, for some methods pair the images of a batch and batch normalization
    needs several; it is another part of the samples in each epoch. Fewer samples than a batch are one batch.

    Args:
        part: the samples.
        batch: samples of a batch.
        seed: of the run.
        steps: at most so many batches; None: all.

    Attributes:
        epoch: that the next iteration is of.
    """

    def __init__(self, part: Int64s, batch: int, seed: int, steps: int | None = None) -> None:
        self._part, self._batch, self._seed = part, min(batch, len(part)), seed
        whole = len(part) // self._batch
        self._steps = whole if steps is None else min(steps, whole)
        self.epoch = 0

    def __len__(self) -> int:
        return self._steps

    @property
    def samples(self) -> int:
        """Samples of an epoch."""
        return self._steps * self._batch

    def __iter__(self) -> Iterator[list[Key]]:
        generator = torch.Generator().manual_seed(seed_of(Use.ORDER, self._seed, self.epoch))
        order = self._part[torch.randperm(len(self._part), generator=generator).numpy()].tolist()
        for step in range(self._steps):
            yield [(self.epoch, index) for index in order[step * self._batch : (step + 1) * self._batch]]


def training_loader(dataset: TrainingSet, batches: EpochBatches, workers: int, device: torch.device) -> DataLoader[Any]:
    """A loader of (images, labels, index), whose workers live as long as it does."""
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        persistent_workers=workers > 0,
        generator=torch.Generator(),  # of the workers' own seeds, which nothing draws with
    )


def evaluation_loader(dataset: EvaluationSet, batch: int, workers: int, device: torch.device) -> DataLoader[Any]:
    """A loader of (images, labels), in order."""
    return DataLoader(
        dataset, batch, num_workers=workers, pin_memory=device.type == "cuda", generator=torch.Generator()
    )


def plain(error: BenchmarkError) -> BenchmarkError:
    """The error itself where it comes from a loader's worker, which wraps it in a text with its traceback."""
    text = str(error)
    if not text.startswith("Caught "):
        return error
    last = text.strip().splitlines()[-1]
    return BenchmarkError(last.partition(": ")[2] or last)
