"""Small folders of images and their stores, for the tests of the accuracy runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from diffcore_gpu.packing import Layout, PackOptions
from diffcore_gpu.packing.pack import pack
from tests.images import write_noise

CLASSES = ("ash", "birch", "cedar")
SIZE = 32
PER_CLASS = 6
"""Training images of each class."""


def write_images(folder: Path, splits: Mapping[str, int], *, classes: tuple[str, ...] = CLASSES, seed: int = 0) -> Path:
    """Images of noise, all different: `splits` of so many for each class."""
    places = [(split, name, count) for split, count in splits.items() for name in classes]
    names = [f"{split}/{name}/{number}.png" for split, name, count in places for number in range(count)]
    return write_noise(folder, names, 36, 40, seed)


def write_plain_images(folder: Path, per_class: int) -> Path:
    """train/ and test/ of images of one grey each, all different: the grey of a training image is 10 · (sample + 1)."""
    sample = 0
    for name in CLASSES:
        for split, count in (("train", per_class), ("test", 1)):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                grey = 10 * (sample + 1) if split == "train" else 250
                sample += split == "train"
                Image.new("RGB", (SIZE, SIZE), (grey,) * 3).save(folder / split / name / f"{number:02d}.png")
    return folder


def write_dataset(folder: Path) -> Path:
    """train/, val/ and test/."""
    return write_images(folder, {"train": PER_CLASS, "val": 2, "test": 2})


def write_store(data: Path, out: Path, size: int = SIZE) -> Path:
    """A store that pairs every sample of train/ with four generated images of its class."""
    generated = write_images(out.with_name(out.name + "-generated"), {"all": 4}, seed=1) / "all"
    pack(PackOptions(data / "train", generated, out, size, size, layout=Layout.CLASS, workers=1))
    return out


def arguments(trees: Path, recipe: str, *more: object) -> list[str]:
    fixed = ["--data", trees / "data", "--store", trees / "store", "--device", "cpu", "--workers", 0]
    return [str(argument) for argument in (recipe, *fixed, *more)]
