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
from diffcore_gpu.store import CounterpartStore
from diffcore_gpu.store.codecs import codec_named
from diffcore_gpu.store.fingerprint import DatasetFingerprint, as_labels, fingerprint_of, name_digests
from diffcore_gpu.store.format import MANIFEST_NAME
from diffcore_gpu.store.manifest import read_manifest
from diffcore_gpu.store.provenance import FileContents
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
_MAY_GROW = ("fraction", "per_sample", "codec", "version")  # may differ where more is added to a finished store
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


def check_place(work: Work, out: Path, *, resume: bool, overwrite: bool, append: bool = False) -> None:
    """Refuse a place for the store that cannot be one.

    Raises:
        GenerationError: `overwrite` is given together with another; there is nothing to append to; the place lies
            inside the real images, is in use, or has no space.
        StoreError: there is no such codec, or it does not hold images of this size.
    """
    if resume and overwrite:
        raise GenerationError("Give one of --resume, to go on, and --overwrite, to start again.")
    if append and overwrite:
        raise GenerationError("Give one of --append, to add to the store, and --overwrite, to start again.")
    if append and not (out / MANIFEST_NAME).exists():
        raise GenerationError(f"{out} holds no finished store to add to; generate one without --append first.")
    if resolved(out).is_relative_to(resolved(work.real.root)):
        # Inside the real images the store would be one class more, and every label after it another number.
        raise GenerationError(f"{out} lies inside {work.real.root}; put the store outside the folder of images.")
    codec_named(work.settings.codec).check_shape((3, work.settings.height, work.settings.width))
    if out.exists() and not out.is_dir():
        raise GenerationError(f"{out} is a file; a store is a folder.")
    if not resume and not overwrite:
        if (out / FOLDER_NAME / SETTINGS_NAME).exists():
            raise GenerationError(
                f"{out} holds an unfinished store; give --resume to go on with it or --overwrite to start again."
            )
        if (out / MANIFEST_NAME).exists() and not append:
            raise GenerationError(
                f"{out} holds a finished store; give --overwrite to replace it, or --append to add to it."
            )
    if not (resume and (out / MANIFEST_NAME).exists()):
        _check_space(work, out, read_manifest(out / MANIFEST_NAME)[0].num_rows if append else 0)


def _check_space(work: Work, out: Path, there: int) -> None:
    pixels = max(work.num_tasks - there, 0) * 3 * work.settings.height * work.settings.width
    needed = int(pixels * codec_named(work.settings.codec).share) + _SPARE_BYTES
    present = sum(file.stat().st_size for file in (out / FOLDER_NAME).glob("*"))
    above = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(above).free
    if free + present < needed:
        raise GenerationError(
            f"{out} has no space: the store may take {needed / (1 << 30):.1f} GiB, and {free / (1 << 30):.1f} GiB are "
            "free; give another --out, a smaller --size or a smaller --fraction."
        )


def check_appendable(work: Work, out: Path, settings: Mapping[str, Any]) -> None:
    """Refuse to add to a store that was made for another dataset, or with other settings than those that may grow.

    Args:
        work: what is wanted now.
        out: the store's folder.
        settings: as in `check_resumable`.

    Raises:
        GenerationError: names every setting that differs, with both values.
    """
    manifest, _ = read_manifest(out / MANIFEST_NAME)
    same = {name: value for name, value in settings.items() if name not in _MAY_GROW}
    _require_same(work, out, same, manifest.metadata, manifest.fingerprint, "made")


def check_resumable(work: Work, out: Path, settings: Mapping[str, Any], *, append: bool = False) -> None:
    """Refuse to go on with work that was begun for another dataset or with other settings; nothing there is no fault.

    Args:
        work: what is wanted now.
        out: the store's folder.
        settings: what is known of the settings now, a part of the store's metadata; what is missing is not compared.
        append: whether the work adds to the finished store that is there.

    Raises:
        GenerationError: names every setting that differs, with both values.
    """
    begun = _begun(out, append=append)
    if begun is not None:
        _require_same(work, out, settings, *begun, "begun")


def _require_same(
    work: Work,
    out: Path,
    settings: Mapping[str, Any],
    metadata: Mapping[str, Any],
    fingerprint: DatasetFingerprint,
    done: str,
) -> None:
    real = work.real
    now = fingerprint_of(as_labels(work.labels, "labels"), name_digests(real.file_names))
    if (fingerprint.labels, fingerprint.file_names) != (now.labels, now.file_names):
        raise GenerationError(
            f"{out} belongs to another dataset than {real.root}: its images or classes differ; give another --out, or "
            "--overwrite to start again."
        )
    found = [item for item in _differences(metadata, settings) if item[0] not in _DERIVED]
    if found:
        texts = [f"{_shown(name)} was {_text(was)}, now {_text(is_)}" for name, was, is_ in found]
        more = f"; and {len(texts) - _LISTED} more" if len(texts) > _LISTED else ""
        raise GenerationError(
            f"{out} was {done} with other settings: {'; '.join(texts[:_LISTED])}{more}. Give the same ones, or "
            "--overwrite to start again."
        )


def _begun(out: Path, *, append: bool) -> tuple[Mapping[str, Any], DatasetFingerprint] | None:
    """The metadata and the dataset's fingerprint of what is there: unfinished work before a finished store."""
    begun = Workspace(out).settings()
    if begun is not None:
        return begun.get("metadata", {}), DatasetFingerprint(0, str(begun.get("labels")), begun.get("file_names"))
    if (out / MANIFEST_NAME).exists() and not append:
        manifest, _ = read_manifest(out / MANIFEST_NAME)
        return manifest.metadata, manifest.fingerprint
    return None


def check_contents(work: Work, out: Path, contents: FileContents | None) -> None:
    """Refuse to go on with work for real images that have changed since; nothing there is no fault.

    Args:
        work: what is wanted now.
        out: the store's folder.
        contents: of the files of the real images now; None: not known.

    Raises:
        GenerationError: names the first file that differs.
        StoreError: what is there is damaged.
    """
    workspace = Workspace(out)
    begun = workspace.contents()
    if begun is None and workspace.settings() is None and (out / MANIFEST_NAME).exists():
        begun = CounterpartStore.open(out).file_contents
    if contents is None or begun is None:
        return
    sample = contents.first_difference(begun)
    if sample is not None:
        raise GenerationError(
            f"{work.real.path(sample)} differs from the image that {out} was begun with; put that back, or start again "
            "with --overwrite."
        )


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
