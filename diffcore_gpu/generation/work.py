"""What a run has to do, whether there is a place for it, and whether it may go on with what an earlier one began.

All of it is known before a model is loaded.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffcore_gpu.documents import resolved
from diffcore_gpu.errors import GenerationError
from diffcore_gpu.generation.draws import Int64s, choose_samples, draw
from diffcore_gpu.generation.schedule import Batch
from diffcore_gpu.generation.settings import GenerationSettings
from diffcore_gpu.packing.imagefolder import ImageFolderScan
from diffcore_gpu.store.fingerprint import as_labels, fingerprint_of, name_digests
from diffcore_gpu.store.format import MANIFEST_NAME, read_manifest
from diffcore_gpu.store.workspace import FOLDER_NAME, SETTINGS_NAME, Workspace

MODEL_KEY = "text_to_image"
"""In the store's metadata: what makes the images."""
FILTER_KEY = "filter"
"""Likewise: what judges them."""
_SETTING_NAMES = {
    f"{MODEL_KEY}.gamma": "guidance gamma",
    f"{MODEL_KEY}.w": "guidance scale w",
    f"{MODEL_KEY}.model": "model",
    f"{MODEL_KEY}.files_sha256": "content of the model's files",
    f"{MODEL_KEY}.vae_files_sha256": "content of the VAE's files",
    f"{FILTER_KEY}.model": "filter model",
    "prompts.name": "prompt set",
    "size": "size of the store's images",
    "version": "version of diffcore-gpu",
}
_DERIVED = (f"{MODEL_KEY}.w",)  # named by what it is derived from
_LONGEST = 80  # characters of a setting's value
_LISTED = 4  # settings that differ
_SPARE_BYTES = 64 << 20  # pairs, journal, thumbnails, and the shard that is copied at the end


class Asked(NamedTuple):
    """An image that a model is asked for.

    Attributes:
        sample: that it is a counterpart of.
        label: the class number of both.
        seed: that it is generated from.
        prompt_id: position in the prompt set.
        prompt: the contextual prompt.
        negative_prompt: the negative prompt.
    """

    sample: int
    label: int
    seed: int
    prompt_id: int
    prompt: str
    negative_prompt: str


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

    def asked(self, batch: Batch) -> list[Asked]:
        """The seed and the prompts of every image of a batch."""
        prompts, samples = self.settings.prompts, self.samples[batch.tasks]
        draws = draw(self.settings.seed, samples, self.copies[batch.tasks], batch.attempt, len(prompts.contextual))
        asked = []
        for sample, (seed, prompt_id) in zip(samples.tolist(), draws, strict=True):
            label = int(self.labels[sample])
            name = self.real.class_names[label]
            texts = prompts.render(prompt_id, name), prompts.render_negative(name)
            asked.append(Asked(sample, label, seed, prompt_id, *texts))
        return asked


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
    if resolved(out).is_relative_to(resolved(work.real.root)):
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


def check_resumable(work: Work, out: Path, settings: Mapping[str, Any]) -> None:
    """Refuse to go on with work that was begun for another dataset or with other settings; nothing there is no fault.

    Args:
        work: what is wanted now.
        out: the store's folder.
        settings: what is known of the settings now, a part of the store's metadata; what is missing is not compared.

    Raises:
        GenerationError: names every setting that differs, with both values.
    """
    begun = _begun(out)
    if begun is None:
        return
    metadata, fingerprint = begun
    real = work.real
    now = fingerprint_of(as_labels(work.labels, "labels"), name_digests(real.file_names))
    if fingerprint != (now.labels, now.file_names):
        raise GenerationError(
            f"{out} belongs to another dataset than {real.root}: its images or classes differ; give another --out, or "
            "--overwrite to start again."
        )
    found = [item for item in _differences(metadata, settings) if item[0] not in _DERIVED]
    if found:
        texts = [f"{_shown(name)} was {_text(was)}, now {_text(is_)}" for name, was, is_ in found]
        more = f"; and {len(texts) - _LISTED} more" if len(texts) > _LISTED else ""
        raise GenerationError(
            f"{out} was begun with other settings: {'; '.join(texts[:_LISTED])}{more}. Give the same ones, or "
            "--overwrite to start again."
        )


def _begun(out: Path) -> tuple[Mapping[str, Any], tuple[str, str | None]] | None:
    """The metadata and the dataset's fingerprint of what is there: unfinished work before a finished store."""
    begun = Workspace(out).settings()
    if begun is not None:
        return begun.get("metadata", {}), (str(begun.get("labels")), begun.get("file_names"))
    if (out / MANIFEST_NAME).exists():
        manifest, _ = read_manifest(out / MANIFEST_NAME)
        return manifest.metadata, (manifest.fingerprint.labels, manifest.fingerprint.file_names)
    return None


def _differences(was: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    for key, value in now.items():
        before = was.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            yield from _differences(before, value, f"{prefix}{key}.")
        elif before != value:
            yield f"{prefix}{key}", before, value


def _shown(name: str) -> str:
    return _SETTING_NAMES.get(name, name.removeprefix(f"{MODEL_KEY}.").replace("_", " ").replace(".", " "))


def _text(value: Any) -> str:
    text = "not set" if value is None else str(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
