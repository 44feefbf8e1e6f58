"""The hard cosine filter of the paper: what is kept is more similar to its real image than τ_k, as eq. 5 has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from diffcore_gpu.errors import GenerationError
from diffcore_gpu.generation.embedding import CACHE_NAME, load_embedder, real_embeddings
from diffcore_gpu.generation.model_loading import resolve_device
from diffcore_gpu.generation.report.folder import ReportFolder
from diffcore_gpu.generation.settings import FilterOptions
from diffcore_gpu.packing.imagefolder import ImageFolderScan
from diffcore_gpu.packing.similarity import EmbeddedFiles
from diffcore_gpu.store.provenance import FileContents

_CHUNK = 1 << 16
"""Embeddings that are held in float64 at once."""


class Embedder(Protocol):
    """What the filter needs of a model: its name, and unit embeddings of images."""

    name: str

    def embed(self, images: Tensor) -> Tensor:
        """uint8 [n, 3, H, W] on the CPU to float32 [n, d] of unit length on the CPU."""
        ...


def _check(embeddings: Tensor, labels: Tensor, num_classes: int) -> None:
    if embeddings.dim() != 2 or not embeddings.is_floating_point():
        raise ValueError(f"embeddings must be floating [N, d], got {embeddings.dtype} {list(embeddings.shape)}.")
    if labels.dtype != torch.int64 or list(labels.shape) != [len(embeddings)]:
        raise ValueError(f"labels must be int64 [{len(embeddings)}], got {labels.dtype} {list(labels.shape)}.")
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, got {num_classes}.")
    wrong = ((labels < 0) | (labels >= num_classes)).nonzero()
    if len(wrong):
        sample = int(wrong[0])
        raise ValueError(f"sample {sample} has label {int(labels[sample])}; labels must lie in [0, {num_classes}).")


def _unit(embeddings: Tensor, samples: Tensor) -> Tensor:
    """Those of some samples, in float64 and of unit length."""
    wide = embeddings[samples].to(torch.float64)
    length: Tensor = torch.linalg.vector_norm(wide, dim=1, keepdim=True)
    wrong = (~torch.isfinite(length) | (length == 0)).flatten().nonzero()
    if len(wrong):
        sample = int(samples[wrong[0]])
        raise ValueError(f"the embedding of sample {sample} is zero or not finite, so it has no direction.")
    return wide / length


def _fill_single(thresholds: Tensor, counts: Tensor) -> Tensor:
    """Classes of one image get the mean τ of those that have a pair; classes without images stay NaN."""
    known = thresholds[counts >= 2]
    return torch.where(counts == 1, known.mean() if len(known) else torch.nan, thresholds)


def class_thresholds(embeddings: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """τ_k of eq. 5: the mean cosine similarity over all pairs of different real images of class k, exactly.

    With unit embeddings u_i it is (‖Σu_i‖² − N) / (N (N − 1)): one pass, no pair is ever formed. (As printed, eq. 5
    divides a sum over ordered pairs by the number of unordered ones; the text says that it is the mean.)

    Args:
        embeddings: floating [N, d] of the real images; normalized here, in float64.
        labels: int64 [N].
        num_classes: K.

    Returns:
        float64 [K]. A class of one image has no pair: its τ is the mean of the τ of the classes that have one. A class
        without images has NaN, and so has every class where none has a pair.

    Raises:
        ValueError: shapes or dtypes that do not fit, a label out of range, or an embedding without a direction.
    """
    _check(embeddings, labels, num_classes)
    sums = torch.zeros(num_classes, embeddings.shape[1], dtype=torch.float64)
    for part in torch.arange(len(embeddings)).split(_CHUNK):
        sums.index_add_(0, labels[part], _unit(embeddings, part))
    counts = torch.bincount(labels, minlength=num_classes)
    n = counts.to(torch.float64)
    means = ((sums * sums).sum(1) - n) / (n * (n - 1))
    return _fill_single(torch.where(counts >= 2, means, torch.nan), counts)


def sampled_class_thresholds(
    embeddings: Tensor, labels: Tensor, num_classes: int, *, pairs_per_class: int, seed: int
) -> Tensor:
    """The paper's estimate of τ_k: the mean over pairs of different images of class k that are drawn with replacement.

    Args:
        embeddings: as in `class_thresholds`.
        labels: int64 [N].
        num_classes: K.
        pairs_per_class: pairs that are drawn for each class.
        seed: of the draw.

    Returns:
        As `class_thresholds`.

    Raises:
        ValueError: as `class_thresholds`; or fewer than one pair.
    """
    _check(embeddings, labels, num_classes)
    if pairs_per_class < 1:
        raise ValueError(f"pairs_per_class must be at least 1, got {pairs_per_class}.")
    generator = torch.Generator().manual_seed(seed & 0xFFFFFFFFFFFFFFFF)
    counts = torch.bincount(labels, minlength=num_classes)
    members = labels.argsort(stable=True).split(counts.tolist())
    means = torch.full((num_classes,), torch.nan, dtype=torch.float64)
    for label, samples in enumerate(members):
        count = len(samples)
        if count < 2:
            continue
        first = torch.randint(count, (pairs_per_class,), generator=generator)
        # one of the others: the numbers from `first` on move up by one
        second = torch.randint(count - 1, (pairs_per_class,), generator=generator)
        second += (second >= first).to(torch.int64)
        unit = _unit(embeddings, samples)
        means[label] = (unit[first] * unit[second]).sum(1).mean()
    return _fill_single(means, counts)


class SimilarityFilter:
    """Accept a counterpart iff S > τ of its class, with S the cosine similarity to the real image of its sample.

    Args:
        embed: computes embeddings of counterparts.
        real: float32 [N, d], unit embeddings of the real images by the same model.
        labels: int64 [N], their classes.
        thresholds: floating [K], τ of each class.
        contents: of the files of the real images, as they were embedded; None: not known.

    Attributes:
        thresholds: float64 [K].
        model: the embedder's name.
        contents: as given.

    Raises:
        GenerationError: they do not fit together.
    """

    def __init__(
        self, embed: Embedder, real: Tensor, labels: Tensor, thresholds: Tensor, contents: FileContents | None = None
    ) -> None:
        if len(real) != len(labels):
            raise GenerationError(f"There are {len(real)} embeddings for {len(labels)} real images; compute them anew.")
        self.thresholds = thresholds.to(torch.float64)
        self.model = embed.name
        self.contents = contents
        self._embed = embed
        self._real = real
        self._labels = labels

    def judge(self, samples: Sequence[int], images: Tensor) -> tuple[Tensor, Tensor]:
        """Compare counterparts with the real images of their samples.

        Args:
            samples: the sample of each of the n counterparts.
            images: uint8 [n, 3, H, W], as the store will hold them.

        Returns:
            S, float32 [n] in [−1, 1], as the store will hold it; and whether S > τ of the sample's class, bool [n],
            decided on that very number. A τ that is NaN accepts nothing.
        """
        index = torch.as_tensor(list(samples), dtype=torch.int64)
        embeddings = self._embed.embed(images)
        similarity = similarities(self._real[index], embeddings)
        return similarity, similarity.to(torch.float64) > self.thresholds[self._labels[index]]


def similarities(a: Tensor, b: Tensor) -> Tensor:
    """Cosine similarity of unit embeddings, row by row: float32 [n] in [−1, 1]."""
    return (a.to(torch.float64) * b.to(torch.float64)).sum(1).clamp(-1, 1).to(torch.float32)


class ClipSimilarity:
    """Similarity by open_clip, with τ of eq. 5: the filter of `generate`, and what `pack --filter clip` asks.

    Args:
        options: the model, and where the thresholds come from.
        out: the store's folder; the embeddings of the real images are kept in `OUT.report` beside it.
        device: where the model runs; "auto": a GPU if there is one.
        seed: of the pairs, where thresholds are estimated from some.

    Attributes:
        model: the model's name, as the store keeps it.

    Raises:
        GenerationError: the model cannot be loaded.
    """

    def __init__(self, options: FilterOptions, *, out: Path, device: str, seed: int = 0) -> None:
        self._embedder = load_embedder(options.model, options.weights, device=str(resolve_device(device)))
        self.model = self._embedder.name
        self._cache = ReportFolder.beside(out).path / CACHE_NAME
        self._options, self._seed = options, seed

    def embed_real(
        self,
        real: ImageFolderScan,
        progress: Callable[[int, int], None],
        say: Callable[[str], None] = lambda message: None,
    ) -> EmbeddedFiles:
        """The samples' embeddings, from the cache where it holds them; see `real_embeddings`."""
        return real_embeddings(self._embedder, real, self._cache, progress, say)

    def embed(self, images: Tensor) -> Tensor:
        """uint8 [n, 3, H, W] to float32 [n, d] of unit length."""
        return self._embedder.embed(images)

    def thresholds(self, embeddings: Tensor, real: ImageFolderScan) -> Tensor:
        """τ of each class, float64 [K]: given, estimated from sampled pairs, or exactly.

        Args:
            embeddings: of the real images, floating [N, d].
            real: the real images.

        Raises:
            GenerationError: no class has two images to compare.
        """
        options, labels, num_classes = self._options, torch.tensor(real.labels), len(real.class_names)
        if options.threshold is not None:
            return torch.full((num_classes,), options.threshold, dtype=torch.float64)
        if options.pairs_per_class is not None:
            found = sampled_class_thresholds(
                embeddings, labels, num_classes, pairs_per_class=options.pairs_per_class, seed=self._seed
            )
        else:
            found = class_thresholds(embeddings, labels, num_classes)
        if bool(found.isnan().all()):
            raise GenerationError(
                f"Every class of {real.root} has a single image, so there is no pair to take a threshold from; give "
                "--threshold."
            )
        return found

    def filter(
        self, real: ImageFolderScan, progress: Callable[[int, int], None], say: Callable[[str], None]
    ) -> SimilarityFilter:
        """The filter of counterparts of these real images.

        Args:
            real: the real images.
            progress: gets (done, total) of those that are embedded.
            say: gets a remark for a person.

        Raises:
            GenerationError: a real image cannot be read, or no class has two to compare.
        """
        embeddings, contents = self.embed_real(real, progress, say)
        return SimilarityFilter(
            self._embedder, embeddings, torch.tensor(real.labels), self.thresholds(embeddings, real), contents
        )
