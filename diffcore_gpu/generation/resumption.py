"""Whether a run may go on with what an earlier one began: it must have the same settings, and names what differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from diffcore_gpu.errors import GenerationError
from diffcore_gpu.generation.work import Work
from diffcore_gpu.store.fingerprint import as_labels, fingerprint_of, name_digests
from diffcore_gpu.store.format import MANIFEST_NAME, read_manifest
from diffcore_gpu.store.workspace import Workspace

MODEL_KEY = "text_to_image"
FILTER_KEY = "filter"

_NAMES = {
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
_LONGEST = 80  # characters of a value
_LISTED = 4


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
        texts = [f"{_NAMES.get(name, _plain(name))} was {_text(was)}, now {_text(is_)}" for name, was, is_ in found]
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


def _plain(name: str) -> str:
    return name.removeprefix(f"{MODEL_KEY}.").replace("_", " ").replace(".", " ")


def _text(value: Any) -> str:
    text = "not set" if value is None else str(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
