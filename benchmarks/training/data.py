"""The images of a recipe: an ImageFolder to train on, those to evaluate on, and the part of the first that is used."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from diffcore_gpu import IndexedDataset
from diffcore_gpu.errors import BenchmarkError

TRAIN = "train"
SUBSET_SEED = 0
"""Of the choice of images per class: the same part for every arm and run."""

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Data:
    """What is trained and evaluated on.

    Attributes:
        folder: that holds train/ and the splits.
        train: all of train/, as (PIL image, label, index).
        part: the samples that are trained on: int64 [n], ascending indices of `train`.
        splits: the ImageFolder of each split, without transforms.
    """

    folder: Path
    train: IndexedDataset
    part: Int64s
    splits: Mapping[str, Any]

    @property
    def class_names(self) -> list[str]:
        """The classes, in the order of their numbers."""
        names: list[str] = self.train.classes
        return names

    @property
    def labels(self) -> Int64s:
        """The class of every sample of `train`: int64 [N]."""
        return np.asarray(self.train.targets, dtype=np.int64)

    def names(self) -> list[str]:
        """The files of `train`, relative to it."""
        return _names(self.train)

    def identity(self) -> dict[str, Any]:
        """What tells these data from others: how many images, and a digest of their names and of the chosen part."""
        digest = hashlib.sha256()
        for dataset in (self.train, *self.splits.values()):
            digest.update("\0".join(_names(dataset)).encode("utf-8", "surrogateescape") + b"\n")
        digest.update(self.part.tobytes())
        sizes = {name: len(dataset) for name, dataset in self.splits.items()}
        return {TRAIN: len(self.part), **sizes, "digest": digest.hexdigest()[:16]}


def open_data(folder: Path, splits: Sequence[str], images_per_class: int | None) -> Data:
    """Find the images.

    Args:
        folder: with train/ and a folder for each split, all of them ImageFolders of the same classes.
        splits: to evaluate on.
        images_per_class: how many to train on, chosen by a fixed seed and the files' names; None: all.

    Raises:
        BenchmarkError: a folder is missing or has no images, classes differ, or a class has too few images.
    """
    if not folder.is_dir():
        raise BenchmarkError(f"{folder}: there is no such folder; --real takes one with {TRAIN}/ and {splits[0]}/.")
    for name in (TRAIN, *splits):
        if not (folder / name).is_dir():
            there = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
            raise BenchmarkError(
                f"{folder} has no folder {name}/, which this recipe {'trains' if name == TRAIN else 'evaluates'} on; "
                f"it has {', '.join(there) or 'no folders'}"
                + ("." if name == TRAIN else "; --splits takes other ones.")
            )
    train = IndexedDataset(_image_folder(folder / TRAIN))
    evaluated = {name: _image_folder(folder / name) for name in splits}
    for name, dataset in evaluated.items():
        _check_classes(folder, train.classes, name, dataset.classes)
        if not len(dataset):
            raise BenchmarkError(f"{folder / name} has no images.")
    counts = np.bincount(train.targets, minlength=len(train.classes))
    for label in np.flatnonzero(counts == 0):
        raise BenchmarkError(f"{folder / TRAIN / train.classes[label]} has no images; remove the class or fill it.")
    part = np.arange(len(train), dtype=np.int64)
    if images_per_class is not None:
        for label in np.flatnonzero(counts < images_per_class):
            raise BenchmarkError(
                f"{folder / TRAIN / train.classes[label]} has {counts[label]} images, fewer than the "
                f"{images_per_class} of each class that are asked for; give a smaller --images-per-class."
            )
        part = choose_per_class(_names(train), train.targets, images_per_class, SUBSET_SEED)
    return Data(folder, train, part, evaluated)


def choose_per_class(names: Sequence[str], labels: Sequence[int], count: int, seed: int) -> Int64s:
    """`count` samples of each class, by a digest of seed and name: whatever the order of the files, the same files.

    A smaller count chooses a part of what a larger one chooses.

    Args:
        names: of the samples, all different.
        labels: of the samples.
        count: at least 1.
        seed: of the choice.

    Returns:
        Positions in `names`, int64, ascending.
    """
    members: dict[int, list[tuple[bytes, int]]] = {}
    for sample, (name, label) in enumerate(zip(names, labels, strict=True)):
        key = hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogateescape")).digest()
        members.setdefault(label, []).append((key, sample))
    chosen = [sample for of_class in members.values() for _, sample in sorted(of_class)[:count]]
    return np.sort(np.array(chosen, dtype=np.int64))


def _image_folder(folder: Path) -> Any:
    if not any(entry.is_dir() for entry in folder.iterdir()):
        raise BenchmarkError(f"{folder} has no class folders; it must have one folder of images for each class.")
    from torchvision.datasets import ImageFolder  # here, so that recipes are listed without it

    return ImageFolder(str(folder), allow_empty=True)


def _names(dataset: Any) -> list[str]:
    return [os.path.relpath(path, dataset.root).replace(os.sep, "/") for path, _ in dataset.samples]


def _check_classes(folder: Path, train: Sequence[str], split: str, classes: Sequence[str]) -> None:
    for here, there, names in ((TRAIN, split, set(train) - set(classes)), (split, TRAIN, set(classes) - set(train))):
        if names:
            raise BenchmarkError(
                f"{folder}: the classes of {TRAIN}/ and {split}/ must be the same, but {min(names)!r} is only in "
                f"{here}/, not in {there}/."
            )
