"""What to pack and how: only names and numbers, so that the command line can show them without waiting for numpy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

DEFAULT_MAX_PER_SAMPLE = 16
"""Pairs for each sample in the class layout, where every counterpart of a class may serve every sample of it."""


class Layout(StrEnum):
    """How a folder of generated images says what belongs to what.

    ``class``: the class folders of the real images; every file of a class may serve every sample of it.
    ``stem``: the real file's stem, then a separator and anything; such a file serves that one sample.
    ``auto``: ``stem`` where most of the files are named after a real image, else ``class``.
    """

    AUTO = "auto"
    CLASS = "class"
    STEM = "stem"


class Content(StrEnum):
    """Of which real files a pack keeps size and digest, by which `bind` and `verify` know them again.

    ``sample``: of 256 at most, spread evenly. ``full``: of all. Files that are read anyway, by the filter or to be
    checked, are all kept.
    """

    SAMPLE = "sample"
    FULL = "full"


class Fit(StrEnum):
    """How an image of another aspect ratio is brought to the store's: cut evenly after covering it, or stretched."""

    CROP = "crop"
    STRETCH = "stretch"


@dataclass(frozen=True)
class PackOptions:
    """What to pack and how.

    Attributes:
        real: an ImageFolder.
        generated: the folder of generated images.
        out: the store's folder.
        height: of the store's images, in pixels.
        width: of the store's images, in pixels.
        layout: how generated files name what they belong to.
        fit: what to do about another aspect ratio.
        codec: how the store keeps its images: "raw"; "jpeg", of quality 95, or "jpeg:QUALITY"; "webp", lossless.
        strict: do not finish the store where anything at all was found.
        check_real: decode the real images too, and report those that would trouble the training.
        content: which real files the store knows the content of.
        max_per_sample: pairs for each sample; None: 16 in the class layout, all in the stem layout.
        workers: threads that decode; None: one for each processor.
        overwrite: replace a store, finished or not, that is already at `out`.
        resume: go on where an interrupted pack with the same options stopped.
        append: add the images that are new to the store that is at `out`, which an earlier pack has made.
    """

    real: Path
    generated: Path
    out: Path
    height: int
    width: int
    layout: Layout = Layout.AUTO
    fit: Fit = Fit.CROP
    codec: str = "raw"
    strict: bool = False
    check_real: bool = False
    content: Content = Content.SAMPLE
    max_per_sample: int | None = None
    workers: int | None = None
    overwrite: bool = False
    resume: bool = False
    append: bool = False
