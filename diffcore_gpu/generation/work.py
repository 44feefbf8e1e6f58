"""What a run has to do, and whether there is a place for it: everything that is known before a model is loaded."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffcore_gpu.errors import GenerationError
from diffcore_gpu.generation.draws import Int64s, choose_samples
from diffcore_gpu.generation.settings import GenerationSettings
from diffcore_gpu.packing.imagefolder import ImageFolderScan
from diffcore_gpu.store.format import MANIFEST_NAME
from diffcore_gpu.store.workspace import FOLDER_NAME, SETTINGS_NAME

_SPARE_BYTES = 64 << 20  # pairs, journal, thumbnails, and the shard that is copied at the end


@dataclass(frozen=True)
class Work:
    """The counterparts that are wanted; task t is counterpart `copies[t]` of sample `samples[t]`.

    Attributes:
        real: the real images.
        settings: of the run.
        labels: int64 [number of real images], their class numbers.
        chosen: the samples that are to get counterparts, ascending, int64.
        samples: int64 [number of tasks].
        copies: int64 [number of tasks].
    """

    real: ImageFolderScan
    settings: GenerationSettings
    labels: Int64s
    chosen: Int64s
    samples: Int64s
    copies: Int64s

    @property
    def num_tasks(self) -> int:
        """Counterparts that are wanted."""
        return len(self.samples)


def plan_work(real: ImageFolderScan, settings: GenerationSettings) -> Work:
    """Choose the samples that get counterparts.

    Raises:
        GenerationError: a class has no image, or the fraction leaves no sample.
    """
    labels = np.asarray(real.labels, np.int64)
    counts = np.bincount(labels, minlength=len(real.class_names))
    empty = [name for name, count in zip(real.class_names, counts, strict=True) if not count]
    if empty:
        others = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
        raise GenerationError(
            f"The class {empty[0]!r}{others} of {real.root} has no image; add images, or remove the folder."
        )
    chosen = choose_samples(labels, len(counts), settings.fraction, settings.seed)
    if not len(chosen):
        raise GenerationError(
            f"fraction {settings.fraction:g} of the {counts.max()} images of the largest class is less than half an "
            "image; give a larger --fraction."
        )
    copies = np.arange(settings.per_sample, dtype=np.int64)
    return Work(
        real=real,
        settings=settings,
        labels=labels,
        chosen=chosen,
        samples=np.repeat(chosen, len(copies)),
        copies=np.tile(copies, len(chosen)),
    )


def check_place(work: Work, out: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse a place for the store that cannot be one.

    Raises:
        GenerationError: both `resume` and `overwrite` are given; the place lies inside the real images, is in use, or
            has no space.
    """
    if resume and overwrite:
        raise GenerationError("Give one of --resume, to go on, and --overwrite, to start again.")
    if out.resolve().is_relative_to(work.real.root.resolve()):
        # Inside the real images the store would be one class more, and every label after it another number.
        raise GenerationError(f"{out} lies inside {work.real.root}; put the store outside the folder of images.")
    if out.exists() and not out.is_dir():
        raise GenerationError(f"{out} is a file; a store is a folder.")
    if not resume and not overwrite:
        if (out / FOLDER_NAME / SETTINGS_NAME).exists():
            raise GenerationError(
                f"{out} holds an unfinished store; give --resume to go on with it or --overwrite to start again."
            )
        if (out / MANIFEST_NAME).exists():
            raise GenerationError(f"{out} holds a finished store; give --overwrite to replace it.")
    if not (resume and (out / MANIFEST_NAME).exists()):
        _check_space(work, out)


def _check_space(work: Work, out: Path) -> None:
    needed = work.num_tasks * 3 * work.settings.height * work.settings.width + _SPARE_BYTES
    present = sum(file.stat().st_size for file in (out / FOLDER_NAME).glob("*"))
    above = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(above).free
    if free + present < needed:
        raise GenerationError(
            f"{out} has no space: the store may take {needed / (1 << 30):.1f} GiB, and {free / (1 << 30):.1f} GiB are "
            "free; give another --out, a smaller --size or a smaller --fraction."
        )
