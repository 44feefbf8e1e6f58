"""Writing a store: sharded, resumable after a kill at any moment, the same bytes for the same rows and pairs."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from diffcore_gpu.errors import StoreError
from diffcore_gpu.store import checks
from diffcore_gpu.store.codecs import EncodedImage
from diffcore_gpu.store.fingerprint import as_labels
from diffcore_gpu.store.format import RAW
from diffcore_gpu.store.making import StoreInTheMaking
from diffcore_gpu.store.provenance import Bytes, digest_of
from diffcore_gpu.store.reader import CounterpartStore
from diffcore_gpu.store.tables import PAIR, WrittenPairs, WrittenRows, fresh_tensors

_MISSING = object()


class CounterpartWriter(StoreInTheMaking):
    """Makes a counterpart store; a context manager that finishes the store when its block ends without an exception.

    What is durable when: `flush` makes all rows and pairs so far durable, in the sense that a writer with
    `resume=True` finds them after the process was killed or the power was cut. With `auto_flush` the writer also does
    so by itself every 64 MiB of images and at the end of each shard, but only at the start of `add_row`, before it
    adds anything: pairs that are added between their row and the next row are never parted from it. An exception that
    ends the block is handled likewise: everything before the last `add_row` is made durable, what came since is not.
    Whatever was added after the last durable point is lost with the process, and is to be added again.

    So this loop gives the same files, byte for byte, however often it is killed and started again::

        with CounterpartWriter(path, ..., resume=True) as writer:
            for row in range(writer.num_rows, len(work)):
                writer.add_row(...)
                writer.add_pair(..., row)

    A caller that adds several rows and then their pairs passes `auto_flush=False` and calls `flush` after the pairs.

    The files grow in the folder `unfinished/` inside `path`; a finished store at `path` stays readable until the new
    one is complete. One process writes at a time. A writer that resumes reads again what is on disk and refuses it
    where it is not what was written.

    With `append` the finished store at `path` grows: rows are numbered on from those that are there, and new pairs may
    name old rows. Its shards stay as they are. Whoever has opened it before keeps reading what it opened.

    Args:
        path: the store's folder; it is made if it is missing.
        num_samples: number of samples of the dataset, at least 1.
        image_shape: (C, H, W) of every image.
        class_names: the name of each class by its number, all different.
        labels: the class number of each sample of the dataset, [num_samples], any integer type.
        file_names: the name of each sample, relative to the dataset's folder with `/` as separator; with them `bind`
            notices another order or other files. A tensor: their digests, as another store of the same dataset has them
            in `file_name_digests`. None: the store is bound by length and labels alone.
        file_contents: what is known of the content of each sample's file; `bind` compares it. So does a resumed run,
            where both know a file, and the store keeps what the run that began it knew.
        metadata: how the store was made, anything that JSON can hold. A resumed run must give the same; what is known
            only later goes into `update_metadata`.
        rows_per_shard: rows in each shard but the last; None: as many as fit into 256 MiB.
        codec: how the images are kept: "raw"; "jpeg", of quality 95, or "jpeg:QUALITY"; "webp", lossless.
        history: what was done before the rows were written here, an object for each operation; a store that was made
            from another one begins with that one's.
        resume: continue unfinished work with the same arguments, or start if there is none. On a finished store of the
            same arguments, nothing is left to do: rows and pairs can be read, and adding one is an error.
        overwrite: replace the store that is there, when the new one is complete; unfinished work is thrown away,
            unless `resume` is given too, which continues it.
        append: add to the finished store that is there, which must have been made for the same dataset.
        auto_flush: make durable points without being asked, as described above.

    Attributes:
        path: the store's folder, absolute.
        codec: the `Codec`; its `seen` gives the pixels that a reader will see, by which pairs should be judged.

    Raises:
        StoreError: if an argument is impossible; another writer is at work in the folder; the folder holds a finished
            store or unfinished work and neither `resume` nor `overwrite` says what to do with it; the work to resume
            was begun with other arguments (the message names which); or the folder cannot be written. Every method
            raises it too when the disk is full; the work can then be resumed from the last durable point.
    """

    # What is there

    @property
    def num_rows(self) -> int:
        """Rows so far; right after resuming, the rows that are safe."""
        return len(self._rows)

    @property
    def num_pairs(self) -> int:
        """Pairs so far; right after resuming, the pairs that are safe."""
        return len(self._pairs)

    @property
    def base(self) -> CounterpartStore | None:
        """The finished store that is added to; None: this writer begins one."""
        return self._base

    @property
    def added(self) -> tuple[int, int]:
        """Rows and pairs so far beside those of `base`."""
        return len(self._rows) - self._base_rows, len(self._pairs) - self._base_pairs

    @property
    def prompts(self) -> list[str]:
        """The prompts so far, by their ids."""
        return list(self._prompts)

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata as it stands, a copy: what the constructor was given and what `update_metadata` added."""
        return copy.deepcopy({**self._metadata, **self._updates})

    @property
    def finished(self) -> bool:
        """Whether `resume=True` found a finished store, to which nothing can be added."""
        return self._state == "finished"

    def rows(self) -> WrittenRows:
        """The rows so far, in their order, as fresh tensors [num_rows]."""
        return WrittenRows(**fresh_tensors(self._rows, WrittenRows._fields))

    def pairs(self) -> WrittenPairs:
        """The pairs so far, as fresh tensors [num_pairs]: in the order of adding, or sorted in a finished store."""
        return WrittenPairs(**fresh_tensors(self._pairs, WrittenPairs._fields))

    # Adding

    def add_row(
        self,
        image: torch.Tensor | npt.NDArray[np.uint8] | EncodedImage,
        *,
        label: int,
        prompt: str | None = None,
        seed: int = 0,
        attempt: int = 0,
        source: int = 0,
    ) -> int:
        """Add one counterpart and return its row number; rows are numbered from 0 in the order of adding.

        Args:
            image: uint8 [C, H, W] of the store's `image_shape`, any strides, any device; or one that `codec.encoded`
                has encoded, in another thread perhaps.
            label: its class number, in [0, len(class_names)).
            prompt: the text that it was generated from, or None.
            seed: the seed that it was generated from, any 64-bit signed integer.
            attempt: which attempt at this counterpart was kept, in [0, 32767].
            source: the digest of the file that it was made from, as `store.provenance.file_content` gives it; 0: none.

        Raises:
            StoreError: if the image has another shape or dtype, a number is out of its range, or the disk is full.
        """
        self._require_open()
        data = self._bytes_of(image)
        label = checks.integer(f"{self.path}: label", label, range(len(self.class_names)))
        seed = checks.integer(f"{self.path}: seed", seed, checks.INT64)
        attempt = checks.integer(f"{self.path}: attempt", attempt, range(1 << 15))
        source = checks.integer(f"{self.path}: source", source, checks.INT64)
        if prompt is not None:
            checks.text(f"{self.path}: prompt", prompt)
        row = len(self._rows)
        self._make_room()
        self._boundary = self._counts()
        with self._writing():
            self._shards.put(row - self._base_rows, data)
        prompt_id = -1 if prompt is None else self._prompts.setdefault(prompt, len(self._prompts))
        self._rows.append((label, seed, digest_of(data), source, prompt_id, attempt, memoryview(data).nbytes))
        return row

    def _bytes_of(self, image: torch.Tensor | npt.NDArray[np.uint8] | EncodedImage) -> Bytes:
        """The bytes of an image as its shard holds them."""
        if isinstance(image, EncodedImage):
            if (image.codec, image.image_shape) != (self.codec.name, self.image_shape):
                raise StoreError(
                    f"{self.path}: an image of codec {image.codec} and shape {list(image.image_shape)} was encoded for "
                    "another store."
                )
            return image.data
        array = checks.image(f"{self.path}: an image", image, self.image_shape)
        return np.ascontiguousarray(array).data if self.codec.name == RAW else self.codec.encode(array)

    def add_pair(self, sample: int, row: int, similarity: float = math.nan) -> None:
        """Say that `row` is a counterpart of `sample`.

        Args:
            sample: index in the dataset, in [0, num_samples).
            row: a row that has been added, of the same class as the sample.
            similarity: their CLIP similarity, stored as float32; NaN where it was not measured.

        Raises:
            StoreError: if a number is out of its range, the row's label is not the sample's, or the pair is there.
        """
        self._require_open()
        sample = checks.integer(f"{self.path}: sample", sample, range(self.num_samples))
        row = checks.integer(f"{self.path}: row", row, range(len(self._rows)))
        value = checks.similarity(f"{self.path}: similarity", similarity)
        label, own = int(self._rows.view()["label"][row]), int(self._labels[sample])
        if label != own:
            raise StoreError(f"{self.path}: row {row} has label {label}, and sample {sample} has label {own}.")
        self._pairs.add(sample, row, value)

    def add_pairs(
        self,
        samples: Sequence[int] | torch.Tensor | npt.NDArray[Any],
        rows: Sequence[int] | torch.Tensor | npt.NDArray[Any],
        similarities: Sequence[float] | torch.Tensor | npt.NDArray[Any] | None = None,
    ) -> None:
        """`add_pair` for many. All are added or, on an error, none.

        Args:
            samples: indices in the dataset, [n], any integer type.
            rows: rows that have been added, [n], any integer type.
            similarities: as many, stored as float32; None: not measured.

        Raises:
            StoreError: as `add_pair`, or if there are not as many of one as of the others.
        """
        self._require_open()
        sample = as_labels(samples, f"{self.path}: samples")
        row = as_labels(rows, f"{self.path}: rows")
        value = checks.similarities(f"{self.path}: similarities", similarities, len(sample))
        if not len(sample) == len(row) == len(value):
            raise StoreError(f"{self.path}: {len(sample)} samples, {len(row)} rows and {len(value)} similarities.")
        for name, numbers, limit in (("sample", sample, self.num_samples), ("row", row, len(self._rows))):
            outside = (numbers < 0) | (numbers >= limit)
            if outside.any():
                raise StoreError(f"{self.path}: {name} {numbers[outside.argmax()]} is outside [0, {limit - 1}].")
        label, own = self._rows.view()["label"][row], self._labels[sample]
        differs = label != own
        if differs.any():
            at = int(differs.argmax())
            raise StoreError(
                f"{self.path}: row {row[at]} has label {label[at]}, and sample {sample[at]} has label {own[at]}."
            )
        records = np.empty(len(sample), PAIR)
        records["sample"], records["row"], records["similarity"] = sample, row, value
        self._pairs.add_many(records)

    def update_metadata(self, values: Mapping[str, Any]) -> None:
        """Add to the metadata what became known on the way; a key given again takes the new value.

        The keys that the constructor was given cannot be changed. Updates become durable with the rows.

        Raises:
            StoreError: if JSON cannot hold a value, a key belongs to the constructor's metadata and differs there, or
                the store is finished and has another value.
        """
        if not self.finished:
            self._require_open()
        for key, value in checks.json_object(f"{self.path}: metadata", values).items():
            if key in self._metadata:
                if self._metadata[key] != value:
                    raise StoreError(f"{self.path}: the metadata {key!r} was given at the start and cannot be changed.")
            elif not self.finished:
                self._updates[key] = value
            elif self._updates.get(key, _MISSING) != value:
                raise StoreError(f"{self.path}: is finished, with another {key!r} in its metadata; use overwrite=True.")

    def flush(self) -> None:
        """Make every row, pair and metadata update so far durable, in the middle of a shard too.

        Raises:
            StoreError: the writer is closed, writing failed before, or the disk is full.
        """
        if not self.finished:
            self._require_open()
            self._make_durable(self._counts())

    def _require_open(self) -> None:
        if self._state == "finished":
            raise StoreError(f"{self.path}: is a finished store, to which nothing can be added; use overwrite=True.")
        if self._state == "failed":
            raise StoreError(f"{self.path}: writing failed before; make a new writer with resume=True.")
        if self._state == "closed":
            raise StoreError(f"{self.path}: this writer is closed.")

    # Ending

    def __enter__(self) -> CounterpartWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        try:
            progress = self._work.progress
            ahead = (
                self._boundary[0] - self._base_rows >= progress.num_rows
                and self._boundary[1] - self._base_pairs >= progress.num_pairs
            )
            if self._state == "open" and self._auto_flush_rows is not None and ahead:
                self._make_durable(self._boundary)
        except StoreError as second:
            error.add_note(f"what came since the last durable point could not be saved: {second}")
        finally:
            self._release()

    def close(self) -> None:
        """Finish the store, as the end of the block does; closing twice is allowed, adding afterwards is not.

        Raises:
            StoreError: if writing failed before, or fails now; the work stays resumable.
        """
        try:
            if self._state == "failed":
                self._require_open()
            if self._state == "open":
                self._commit()
        finally:
            self._release()
