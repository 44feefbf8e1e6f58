"""The embeddings of the real images, computed once and kept beside the store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from diffcore_gpu.errors import GenerationError, clause
from diffcore_gpu.packing.imagefolder import ImageFolderScan
from diffcore_gpu.store.durable import replace_file

CACHE_NAME = "real-embeddings.safetensors"
"""The cache's name in the folder of a report."""
_TENSOR = "embeddings"


class FileEmbedder(Protocol):
    """What is needed of a model: its name, and embeddings of files."""

    name: str

    def embed_files(self, paths: Sequence[Path], progress: Callable[[int, int], None]) -> Tensor:
        """float32 [n, d] of unit length, on the CPU."""
        ...


def real_embeddings(
    embedder: FileEmbedder,
    real: ImageFolderScan,
    cache: Path | None,
    progress: Callable[[int, int], None],
    say: Callable[[str], None] = lambda message: None,
) -> Tensor:
    """The embeddings of an ImageFolder's samples, from the cache where it holds them.

    The cache belongs to one model and to files of certain names, sizes and times of modification; any other, and one
    that is damaged, is computed anew and replaced.

    Args:
        embedder: the model.
        real: the N real images.
        cache: a .safetensors file, whose folder is made if it is missing; None: nothing is kept.
        progress: gets (done, total) of the images that are embedded; it is not called where the cache serves.
        say: gets a remark for a person.

    Returns:
        float32 [N, d] of unit length, on the CPU, in the order of the samples.

    Raises:
        GenerationError: a real image cannot be read.
        StoreError: the cache cannot be written.
    """
    paths = [real.path(sample) for sample in range(len(real))]
    key = _key(embedder.name, real, paths)
    if cache is not None and cache.exists():
        found = _read(cache, key, len(paths))
        if isinstance(found, Tensor):
            return found
        say(f"{cache} is computed anew: {found}.")
    embeddings = embedder.embed_files(paths, progress)
    if cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
        replace_file(cache, save({_TENSOR: embeddings}, {"key": key, "model": embedder.name}))
    return embeddings


def _key(model: str, real: ImageFolderScan, paths: Sequence[Path]) -> str:
    facts: list[object] = [model]
    for name, path in zip(real.file_names, paths, strict=True):
        try:
            status = path.stat()
        except OSError as error:
            raise GenerationError(f"{path} cannot be read: {error.strerror}.") from error
        facts.append([name, status.st_size, status.st_mtime_ns])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _read(cache: Path, key: str, count: int) -> Tensor | str:
    """The embeddings, or a clause that says why the file does not serve."""
    try:
        with safe_open(cache, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("key") != key:
                return "it belongs to another model or to other images"
            embeddings: Tensor = file.get_tensor(_TENSOR)
    except (SafetensorError, OSError) as error:
        return f"it is damaged ({clause(error)})"
    lengths = torch.linalg.vector_norm(embeddings.to(torch.float32), dim=-1)
    if embeddings.dim() != 2 or len(embeddings) != count or not bool(((lengths - 1).abs() < 1e-3).all()):
        return "it does not hold unit embeddings of these images"
    return embeddings
