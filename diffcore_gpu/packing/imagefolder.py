"""Find the images of a folder, in the order of `torchvision.datasets.ImageFolder` and without importing it.

A sample's index is its position in that order, so it must be the very same one: classes sorted by name, folders walked
through links and sorted by path, files sorted by name, and the same extensions.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from diffcore_gpu.errors import PackError

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""What ImageFolder takes for an image, compared in lower case."""


class FoundFile(NamedTuple):
    """A file of a folder.

    Attributes:
        name: relative to the folder, with "/" between folders.
        real_path: where its bytes lie once every link is resolved; equal for two names of one file.
    """

    name: str
    real_path: str


@dataclass(frozen=True)
class ImageFolderScan:
    """The samples of an ImageFolder.

    Attributes:
        root: the folder.
        class_names: the names of its class folders, sorted.
        files: one per sample.
        labels: one per sample, an index into `class_names`.
    """

    root: Path
    class_names: list[str]
    files: list[FoundFile]
    labels: list[int]

    def __len__(self) -> int:
        return len(self.files)

    @property
    def file_names(self) -> list[str]:
        """One per sample, relative to `root`."""
        return [file.name for file in self.files]

    def path(self, sample: int) -> Path:
        """The file of a sample."""
        return self.root / self.files[sample].name


def is_image_name(name: str) -> bool:
    """Whether ImageFolder takes a file of that name for an image."""
    return name.lower().endswith(IMAGE_EXTENSIONS)


def scan_image_folder(root: Path) -> ImageFolderScan:
    """List the samples of an ImageFolder: same classes, same files, same order.

    A class folder without an image is kept as a class without samples, as `ImageFolder(root, allow_empty=True)` does.

    Raises:
        PackError: the folder is missing, unreadable, or has no class folder or no image.
    """
    if not root.is_dir():
        raise PackError(f"{root} is not a folder; --real takes a folder with one folder of images per class.")
    try:
        with os.scandir(root) as entries:
            class_names = sorted(entry.name for entry in entries if entry.is_dir())
    except OSError as error:
        raise PackError(f"{root} cannot be listed: {error.strerror}.") from error
    if not class_names:
        raise PackError(f"{root} has no class folders; an ImageFolder has one folder of images per class.")
    files: list[FoundFile] = []
    labels: list[int] = []
    for label, class_name in enumerate(class_names):
        found = walk_files(root / class_name, is_image_name)
        files += [FoundFile(f"{class_name}/{file.name}", file.real_path) for file in found]
        labels += [label] * len(found)
    if not files:
        raise PackError(f"{root} has class folders but no image; known are {', '.join(IMAGE_EXTENSIONS)}.")
    for name in (*class_names, *(file.name for file in files)):
        if not _is_unicode(name):
            raise PackError(f"The name {name!a} in {root} is not valid UTF-8; rename it.")
    return ImageFolderScan(root, class_names, files, labels)


def walk_files(folder: Path, keep: Callable[[str], bool]) -> list[FoundFile]:
    """The files of a folder at any depth whose name `keep` wants, in ImageFolder's order.

    Links to folders are followed. The order is by the whole path of the containing folder, then by file name.

    Raises:
        PackError: a folder cannot be listed, or a link leads back to a folder that contains it.
    """
    found: list[tuple[str, list[FoundFile]]] = []
    _walk(os.fspath(folder), "", keep, (), found)
    return [file for _, files in sorted(found) for file in files]


def _walk(
    folder: str,
    prefix: str,
    keep: Callable[[str], bool],
    above: tuple[str, ...],
    found: list[tuple[str, list[FoundFile]]],
) -> None:
    real = os.path.realpath(folder)
    if real in above:
        raise PackError(f"{folder} is a link to a folder that contains it; remove the link.")
    files: list[FoundFile] = []
    folders: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    folders.append(entry.name)
                elif keep(entry.name):
                    # The folder's resolved path serves for all its plain files: no system call for each.
                    path = os.path.realpath(entry.path) if entry.is_symlink() else f"{real}/{entry.name}"
                    files.append(FoundFile(prefix + entry.name, path))
    except OSError as error:
        raise PackError(f"{folder} cannot be listed: {error.strerror}.") from error
    found.append((folder, sorted(files)))
    for name in folders:
        _walk(f"{folder}/{name}", f"{prefix}{name}/", keep, (*above, real), found)


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
