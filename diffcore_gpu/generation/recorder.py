"""What happens to a generated batch: fitted to the store's size, judged by the filter, written, counted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diffcore_gpu.errors import GenerationError
from diffcore_gpu.generation.draws import Int64s
from diffcore_gpu.generation.report.folder import ReportFolder
from diffcore_gpu.generation.report.records import Candidate, NeverPassed
from diffcore_gpu.generation.report.tally import ReportTally
from diffcore_gpu.generation.schedule import Batch, Bools
from diffcore_gpu.generation.verdicts import RECORD, Journal, Records
from diffcore_gpu.generation.work import Asked, Work
from diffcore_gpu.packing.decode import resize
from diffcore_gpu.packing.options import Fit
from diffcore_gpu.store import CounterpartWriter
from diffcore_gpu.store.codecs import EncodedImage, decode_many, encode_many
from diffcore_gpu.store.format import RAW
from diffcore_gpu.store.provenance import FileContents

SAVE_SECONDS = 5.0
"""What is generated again, at most, after the process was killed."""
JOURNAL_KEY = "journal"


class Filter(Protocol):
    """The hard filter of the paper, as `SimilarityFilter` is: accept a counterpart iff S > τ of its class.

    Attributes:
        thresholds: τ of each class.
        model: its name, as the store keeps it.
        contents: of the real images' files as it has read them; None: not known.
    """

    thresholds: Tensor
    model: str
    contents: FileContents | None

    def judge(self, samples: list[int], images: Tensor) -> tuple[Tensor, Tensor]:
        """S of each image with the real image of its sample, float32 [n], and the verdicts, bool [n]."""
        ...


class Recorder:
    """Takes the batches in order and keeps the store, the journal, the thumbnails and the tally in step.

    Only one thread may call it at a time.

    Args:
        work: what is wanted.
        writer: of the store; with `auto_flush=False`, because a durable point needs the journal as well.
        folder: of the report.
        journal: of the verdicts.
        similarity_filter: judges.
        negative: whether the model uses negative prompts; else the candidates have none.

    Attributes:
        tally: counts the candidates for the report.
        seconds: spent in "filter" and "write".
    """

    def __init__(
        self,
        work: Work,
        writer: CounterpartWriter,
        folder: ReportFolder,
        journal: Journal,
        similarity_filter: Filter,
        *,
        negative: bool,
    ) -> None:
        self._work, self._writer, self._folder, self._journal = work, writer, folder, journal
        self._filter, self._negative = similarity_filter, negative
        self._best = np.full(len(work.labels), -np.inf, np.float32)  # of each sample
        self._given_up = np.zeros(len(work.labels), np.int64)  # copies of each sample
        self.tally = ReportTally(
            work.real.class_names,
            work.real.labels,
            work.chosen.tolist(),
            [float(threshold) for threshold in similarity_filter.thresholds],
            work.settings.prompts.contextual,
        )
        self._saved = time.monotonic()
        self.seconds = {"filter": 0.0, "write": 0.0}

    def restore(self, work: Work, records: Records, batches: list[Batch]) -> None:
        """Count again what an earlier process recorded.

        Args:
            work: of the run that recorded it.
            records: of the journal.
            batches: which tasks they are of, as the schedule says.

        Raises:
            GenerationError: the journal is of other images.
        """
        begin = 0
        for batch in batches:
            part = records[begin : begin + len(batch.tasks)]
            begin += len(part)
            if not np.array_equal(part["task"], batch.tasks) or not (part["attempt"] == batch.attempt).all():
                raise self._disagree()
            self._count(work.samples[batch.tasks], batch, work.asked(batch), part["similarity"], part["accepted"])
        if begin != len(records):
            raise self._disagree()

    def check_rows(self, accepted: int) -> None:
        """Compare the images that this run has accepted, as the journal counts them, with the store.

        Raises:
            GenerationError: there are not as many rows or pairs.
        """
        if (accepted, accepted) != self._writer.added:
            raise self._disagree()

    def record(self, batch: Batch, asked: list[Asked], images: Tensor) -> Bools:
        """Judge a batch and keep what passed.

        Args:
            batch: its tasks.
            asked: what the images were generated from, as `Work.asked` says.
            images: uint8 [n, 3, H, W] of any size, on the CPU.

        Returns:
            The verdicts, bool [n].

        Raises:
            GenerationError: the filter gave no number.
            StoreError: the disk is full, or something else is wrong with the store.
        """
        began = time.perf_counter()
        settings = self._work.settings
        images, rows = self._encoded(fit(images, settings.height, settings.width))
        similarity_tensor, accepted_tensor = self._filter.judge(self._work.samples[batch.tasks].tolist(), images)
        similarity, accepted = similarity_tensor.cpu().numpy(), accepted_tensor.cpu().numpy()
        if not np.isfinite(similarity).all():
            raise GenerationError(
                f"The filter model {self._filter.model} gave a similarity that is no number; use another precision."
            )
        judged = time.perf_counter()
        candidates = self._count(self._work.samples[batch.tasks], batch, asked, similarity, accepted)
        for candidate, image, encoded in zip(candidates, images, rows, strict=True):
            if candidate.accepted:
                row = self._writer.add_row(
                    encoded,
                    label=candidate.label,
                    prompt=candidate.prompt,
                    seed=candidate.seed,
                    attempt=candidate.attempt,
                )
                self._writer.add_pair(candidate.sample, row, candidate.similarity)
            else:
                self._folder.keep_discard(candidate, image)
        records = np.empty(len(batch.tasks), RECORD)
        records["task"], records["attempt"] = batch.tasks, batch.attempt
        records["accepted"], records["similarity"] = accepted, similarity
        self._journal.add(records)
        if time.monotonic() - self._saved > SAVE_SECONDS:
            self.save()
        self.seconds["filter"] += judged - began
        self.seconds["write"] += time.perf_counter() - judged
        return accepted

    def _encoded(self, images: Tensor) -> tuple[Tensor, Sequence[Tensor | EncodedImage]]:
        """Images, uint8 [n, 3, H, W], as a reader of the store will see them, and what the writer gets of each."""
        codec = self._writer.codec
        if codec.name == RAW:
            return images, list(images)
        rows = encode_many(codec, images.numpy())
        seen = torch.empty_like(images)
        decode_many(codec, [row.data for row in rows], seen.numpy())
        return seen, rows

    def save(self) -> None:
        """Make everything so far durable: the journal first, and then what counts of it with the rows."""
        self._writer.update_metadata({JOURNAL_KEY: self._journal.save()})
        self._writer.flush()
        self._saved = time.monotonic()

    def give_up(self, work: Work, tasks: Int64s) -> None:
        """Note the tasks of a run that never passed, int64."""
        np.add.at(self._given_up, work.samples[tasks], 1)

    def finish(self) -> None:
        """Name the samples that have no counterpart because every attempt at every copy was discarded."""
        work = self._work
        per_sample = work.settings.per_sample
        for sample in np.flatnonzero(self._given_up == per_sample).tolist():
            label = int(work.labels[sample])
            self.tally.give_up(
                NeverPassed(
                    sample=sample,
                    label=label,
                    name=work.real.files[sample].name,
                    attempts=per_sample * work.settings.max_attempts,
                    best=float(self._best[sample]),
                )
            )

    def _count(
        self,
        samples: Int64s,
        batch: Batch,
        asked: list[Asked],
        similarity: np.ndarray[Any, Any],
        accepted: Bools,
    ) -> list[Candidate]:
        candidates = []
        for image, value, passed in zip(asked, similarity.tolist(), accepted.tolist(), strict=True):
            candidate = Candidate(
                sample=image.sample,
                label=image.label,
                attempt=batch.attempt,
                seed=image.seed,
                prompt=image.prompt,
                negative_prompt=image.negative_prompt if self._negative else "",
                similarity=value,
                accepted=passed,
                prompt_id=image.prompt_id,
            )
            self.tally.add(candidate)
            candidates.append(candidate)
        np.maximum.at(self._best, samples, similarity)
        return candidates

    def _disagree(self) -> GenerationError:
        return GenerationError(
            f"{self._journal.path} and {self._writer.path} are not of the same run; start again with --overwrite."
        )


def fit(images: Tensor, height: int, width: int) -> Tensor:
    """Bring generated images to the store's size as `diffcore pack` does: covered and cut evenly, antialiased.

    Args:
        images: uint8 [n, 3, H, W] on the CPU.
        height: of the result, in pixels.
        width: of the result, in pixels.

    Returns:
        uint8 [n, 3, height, width].
    """
    if images.shape[2:] == (height, width):
        return images
    result = np.empty((len(images), 3, height, width), np.uint8)
    for target, image in zip(result, images, strict=True):
        picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
        target[:] = np.asarray(resize(picture, height, width, Fit.CROP)).transpose(2, 0, 1)
    return torch.from_numpy(result)
