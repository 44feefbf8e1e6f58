"""The similarity filter of a pack: which generated files may serve which samples, and how similar they are.

S is the cosine similarity of the embeddings of a sample's file and of a generated image as a reader of the store will
see it: at the store's size, and with what its codec loses. A pair is possible iff S > τ of its class; a file that can
serve no sample is discarded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from diffcore_gpu.packing.colour import ImageProblemError
from diffcore_gpu.packing.decode import decode, pillow_ready
from diffcore_gpu.packing.imagefolder import ImageFolderScan
from diffcore_gpu.packing.layout import MatchedFile
from diffcore_gpu.packing.options import PackOptions
from diffcore_gpu.packing.pairing import groups, own_files
from diffcore_gpu.store.codecs import codec_named
from diffcore_gpu.store.provenance import FileContents
from diffcore_gpu.threads import default_workers, map_in_order

Int64s = npt.NDArray[np.int64]
Float32s = npt.NDArray[np.float32]

_BATCH = 64
_BLOCK = 1 << 22
"""Similarities that are held at once."""


class EmbeddedFiles(NamedTuple):
    """Images as a filter saw them.

    Attributes:
        embeddings: float32 [n, d] of unit length, one for each file.
        contents: of the very bytes that the embeddings are of.
    """

    embeddings: Tensor
    contents: FileContents


class PackFilter(Protocol):
    """What a pack needs of the model that measures similarity.

    Attributes:
        model: its name, as the store keeps it.
    """

    model: str

    def embed_real(self, real: ImageFolderScan, progress: Callable[[int, int], None]) -> EmbeddedFiles:
        """Embed every sample."""
        ...

    def embed(self, images: Tensor) -> Tensor:
        """uint8 [n, 3, H, W] to float32 [n, d] of unit length."""
        ...

    def thresholds(self, embeddings: Tensor, real: ImageFolderScan) -> Tensor:
        """τ of each class, float64 [K]; NaN where a class has no images."""
        ...


@dataclass(frozen=True)
class Judged:
    """What the filter found out.

    Attributes:
        model: the filter's model.
        thresholds: float64 [K].
        files: the files that may serve a sample, and those that could not be judged because they cannot be decoded,
            in their order.
        discarded: how many may serve none.
        pairs: samples, positions in `files`, and similarities of all pairs with S > τ, by sample and then position.
        refused: how many pairs had no S > τ.
        contents: of the real files, as they were embedded.
    """

    model: str
    thresholds: Tensor
    files: list[MatchedFile]
    discarded: int
    pairs: tuple[Int64s, Int64s, Float32s]
    refused: int
    contents: FileContents


def judge(
    similarity: PackFilter,
    options: PackOptions,
    real: ImageFolderScan,
    files: Sequence[MatchedFile],
    progress: Callable[[int, int], None],
) -> Judged:
    """Compare the generated files with the samples that they might serve.

    Args:
        similarity: the model.
        options: of the pack: where the files are, and the store's size.
        real: the samples.
        files: the generated files.
        progress: gets (done, total) of the real images and then of the files.
    """
    total = len(real) + len(files)
    embeddings, contents = similarity.embed_real(real, lambda done, _: progress(done, total))
    thresholds = similarity.thresholds(embeddings, real).to(torch.float64)
    numbers, generated = _embed_files(similarity, options, files, lambda done: progress(len(real) + done, total))
    decoded = [files[number] for number in numbers]
    own, of_decoded = own_files(real, decoded), np.array(numbers, np.int64)

    samples: list[Int64s] = []
    chosen: list[Int64s] = []
    values: list[Float32s] = []
    possible = 0
    for members, candidates in groups(real, decoded):
        threshold = thresholds[real.labels[members[0]]]
        column_of = {candidate: column for column, candidate in enumerate(candidates)}
        for part in torch.tensor(members).split(max(1, _BLOCK // len(candidates))):
            values_here = (embeddings[part].double() @ generated[candidates].double().T).clamp(-1, 1).float()
            allowed = torch.ones_like(values_here, dtype=torch.bool)
            for line, member in enumerate(part.tolist()):
                for its_own in own.get(member, ()):
                    if its_own in column_of:
                        allowed[line, column_of[its_own]] = False
            possible += int(allowed.sum())
            kept = ((values_here.double() > threshold) & allowed).nonzero()
            samples.append(part[kept[:, 0]].numpy())
            chosen.append(of_decoded[np.array(candidates)[kept[:, 1].numpy()]])
            values.append(values_here[kept[:, 0], kept[:, 1]].numpy())
    none = np.empty(0, np.int64)
    sample, number = np.concatenate([none, *samples]), np.concatenate([none, *chosen])
    value = np.concatenate([np.empty(0, np.float32), *values])
    serving = set(number.tolist())
    undecodable = set(range(len(files))) - set(numbers)
    left = [number for number in range(len(files)) if number in serving or number in undecodable]
    position = np.full(len(files), -1)
    position[left] = np.arange(len(left))
    order = np.lexsort((number, sample))
    return Judged(
        similarity.model,
        thresholds,
        [files[number] for number in left],
        len(files) - len(left),
        (sample[order], position[number[order]], value[order]),
        possible - len(sample),
        contents,
    )


def _embed_files(
    similarity: PackFilter, options: PackOptions, files: Sequence[MatchedFile], progress: Callable[[int], None]
) -> tuple[list[int], Tensor]:
    """The numbers of the files that can be decoded, and their embeddings; decoded in threads meanwhile."""

    codec = codec_named(options.codec)

    def look(matched: MatchedFile) -> npt.NDArray[np.uint8] | None:
        try:
            decoded = decode(options.generated / matched.file.name, options.height, options.width, options.fit)
        except ImageProblemError:
            return None  # `add_rows` names it
        return codec.seen(decoded.pixels)

    numbers: list[int] = []
    embeddings: list[Tensor] = []
    with pillow_ready():
        decoded = enumerate(map_in_order(look, files, options.workers or default_workers()))
        while batch := list(islice(decoded, _BATCH)):
            usable = [(number, pixels) for number, pixels in batch if pixels is not None]
            if usable:
                numbers += [number for number, _ in usable]
                embeddings.append(similarity.embed(torch.from_numpy(np.stack([pixels for _, pixels in usable]))))
            progress(batch[-1][0] + 1)
    return numbers, torch.cat(embeddings) if embeddings else torch.empty(0, 1)


def best_pairs(
    pairs: tuple[Int64s, Int64s, Float32s], row_of: Int64s, limit: int | None
) -> tuple[Int64s, Int64s, Float32s]:
    """The most similar rows of each sample.

    Args:
        pairs: as in `Judged`.
        row_of: the row of each file, or −1 where it has none.
        limit: pairs for each sample; None: all.

    Returns:
        Samples ascending, rows ascending within a sample, and similarities; of equally similar rows the first is taken.
    """
    sample, position, value = pairs
    row = row_of[position] if len(position) else position
    has_row = row >= 0
    sample, row, value = sample[has_row], row[has_row], value[has_row]
    order = np.lexsort((row, -value, sample))
    if limit is not None and len(order):
        ranked = sample[order]
        first = np.r_[0, np.flatnonzero(np.diff(ranked)) + 1]
        rank = np.arange(len(ranked)) - np.repeat(first, np.diff(np.r_[first, len(ranked)]))
        order = order[rank < limit]
    order = order[np.lexsort((row[order], sample[order]))]
    return sample[order], row[order], value[order]
