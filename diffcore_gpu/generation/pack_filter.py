"""The filter of `generate` for images that are there already: what `diffcore pack --filter clip` hands to the pack."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from diffcore_gpu.generation.embedding import load_embedder
from diffcore_gpu.generation.embedding_cache import CACHE_NAME, real_embeddings
from diffcore_gpu.generation.filter import choose_thresholds
from diffcore_gpu.generation.model_loading import resolve_device
from diffcore_gpu.generation.report.folder import ReportFolder
from diffcore_gpu.packing.imagefolder import ImageFolderScan


class ClipPackFilter:
    """Similarity by open_clip, with τ of eq. 5.

    Args:
        model: a model of open_clip by name, or a folder with one.
        weights: its weights; see `load_embedder`.
        out: the store's folder; the embeddings of the real images are kept in `OUT.report` beside it.
        threshold: τ of every class; None: measured on the real images.
        device: where the model runs; "auto": a GPU if there is one.

    Raises:
        GenerationError: the model cannot be loaded.
    """

    def __init__(self, model: str, weights: str | None, *, out: Path, threshold: float | None, device: str) -> None:
        self._embedder = load_embedder(model, weights, device=str(resolve_device(device)))
        self.model = self._embedder.name
        self._cache = ReportFolder.beside(out).path / CACHE_NAME
        self._threshold = threshold

    def embed_real(self, real: ImageFolderScan, progress: Callable[[int, int], None]) -> Tensor:
        """float32 [N, d] of unit length, from the cache where it holds them."""
        return real_embeddings(self._embedder, real, self._cache, progress)

    def embed(self, images: Tensor) -> Tensor:
        """uint8 [n, 3, H, W] to float32 [n, d] of unit length."""
        return self._embedder.embed(images)

    def thresholds(self, embeddings: Tensor, real: ImageFolderScan) -> Tensor:
        """τ of each class, float64 [K].

        Raises:
            GenerationError: no class has two images.
        """
        labels = torch.tensor(real.labels)
        return choose_thresholds(embeddings, labels, len(real.class_names), real=real.root, threshold=self._threshold)
