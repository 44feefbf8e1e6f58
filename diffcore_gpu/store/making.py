"""A store in the making: how a writer begins, goes on, keeps what it has, and puts the finished store in its place."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from diffcore_gpu.errors import StoreError
from diffcore_gpu.store import checks
from diffcore_gpu.store.codecs import codec_named
from diffcore_gpu.store.durable import WriterLock, make_folder, named_os_errors, replace_file
from diffcore_gpu.store.fingerprint import DatasetFingerprint, as_labels, fingerprint_of, name_digests
from diffcore_gpu.store.format import FORMAT_VERSION, MANIFEST_NAME, RAW, shard_name
from diffcore_gpu.store.manifest import FileEntry, Manifest, content_checksum
from diffcore_gpu.store.provenance import FileContents, joined_contents
from diffcore_gpu.store.publication import is_complete, publish, remove_leftovers
from diffcore_gpu.store.reader import CounterpartStore
from diffcore_gpu.store.shard_stream import ShardStream
from diffcore_gpu.store.tables import (
    ROW,
    PairTable,
    Table,
    write_pairs,
    write_rows,
    written_pairs,
    written_rows,
)
from diffcore_gpu.store.workspace import CONTENTS_KEY, Workspace

SHARD_BYTES = 256 << 20
"""Bytes of images in a shard, about, where `rows_per_shard` is not given."""

AUTO_FLUSH_BYTES = 64 << 20
"""Bytes of images after which the writer makes a durable point by itself."""

_MISSING = object()
_AGAIN = "start again with overwrite=True"
_SAME_TO_GROW = ("num_samples", "image_shape", "class_names", "labels", "file_names")


class StoreInTheMaking:
    """What a `CounterpartWriter`, where the arguments are described, holds and keeps on disk.

    Attributes:
        path: the store's folder, absolute.
        image_shape: (C, H, W) of every image.
        class_names: by class number.
        num_samples: of the dataset.
        rows_per_shard: rows in each shard but the last.
        codec: the `Codec` of the images.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        num_samples: int,
        image_shape: Sequence[int],
        class_names: Sequence[str],
        labels: Sequence[int] | torch.Tensor | npt.NDArray[Any],
        file_names: Iterable[str] | torch.Tensor | None = None,
        file_contents: FileContents | None = None,
        metadata: Mapping[str, Any] | None = None,
        rows_per_shard: int | None = None,
        codec: str = RAW,
        history: Sequence[Mapping[str, Any]] = (),
        resume: bool = False,
        overwrite: bool = False,
        append: bool = False,
        auto_flush: bool = True,
    ) -> None:
        self.path = Path(path).absolute()
        self.image_shape = checks.shape("image_shape", image_shape)
        self.class_names = checks.class_names("class_names", class_names)
        self.num_samples = checks.count("num_samples", num_samples)
        self.codec = codec_named(codec)
        self.codec.check_shape(self.image_shape)
        image_bytes = math.prod(self.image_shape)
        if rows_per_shard is None:
            rows_per_shard = max(1, int(SHARD_BYTES / (self.codec.share * image_bytes)))
        self.rows_per_shard = checks.count("rows_per_shard", rows_per_shard)
        self._metadata = checks.json_object("metadata", metadata or {})
        self._labels = checks.dataset_labels(labels, self.num_samples, len(self.class_names))
        self._file_names = None if file_names is None or isinstance(file_names, torch.Tensor) else list(file_names)
        if isinstance(file_names, torch.Tensor):
            self._name_digests: npt.NDArray[np.int64] | None = as_labels(file_names, "file_names")
        else:
            self._name_digests = None if self._file_names is None else name_digests(self._file_names)
        if self._name_digests is not None and len(self._name_digests) != self.num_samples:
            raise StoreError(f"file_names: {len(self._name_digests)} names for {self.num_samples} samples.")
        self._fingerprint = fingerprint_of(self._labels, self._name_digests)
        if file_contents is not None and len(file_contents.size) != self.num_samples:
            raise StoreError(f"file_contents: {len(file_contents.size)} files for {self.num_samples} samples.")
        self._contents = file_contents
        self._history = tuple(checks.json_object("history", entry) for entry in history)
        if append and overwrite:
            raise StoreError(f"{self.path}: give one of append, to add to the store, and overwrite, to replace it.")
        self._auto_flush_rows = max(1, AUTO_FLUSH_BYTES // image_bytes) if auto_flush else None

        self._base: CounterpartStore | None = None
        self._base_rows = self._base_pairs = self._base_prompts = 0
        self._rows = Table(ROW)
        self._pairs = PairTable(self.num_samples)
        self._prompts: dict[str, int] = {}
        self._updates: dict[str, Any] = {}
        self._boundary = (0, 0, 0)  # rows, pairs, prompts before the last add_row: what an exception leaves durable
        self._state = "closed"

        if self.path.exists() and not self.path.is_dir():
            raise StoreError(f"{self.path}: is a file; a store is a folder.")
        with named_os_errors(self.path):
            make_folder(self.path)
        self._lock = WriterLock(self.path)
        self._work = Workspace(self.path)
        self._shards = self._shard_stream()
        try:
            self._begin(resume=resume, overwrite=overwrite, append=append)
        except BaseException:
            self._release()
            raise

    def _shard_stream(self) -> ShardStream:
        first = 0 if self._base is None else len(self._base.manifest.shards)
        return ShardStream(self._work.folder, self.image_shape, self.rows_per_shard, self.codec.name, first)

    # Starting

    def _begin(self, *, resume: bool, overwrite: bool, append: bool) -> None:
        if is_complete(self.path):  # the last writer was killed while it moved its store into place
            publish(self.path, check=True)
        finished = (self.path / MANIFEST_NAME).exists()
        if finished and not overwrite:
            remove_leftovers(self.path)
        begun = self._work.settings()
        if append:
            self._stand_on(begun)
        elif resume and begun is not None and begun.get("base") is not None:
            raise StoreError(
                f"{self.path}: holds unfinished work that adds to its store; pass append=True to continue it."
            )
        if resume and begun is not None:
            self._compare(begun)
            self._go_on_with(self._work.contents())
            self._restore()
            self._state = "open"
        elif finished and resume and not overwrite and not append:
            self._load_finished()
            self._state = "finished"
        elif begun is not None and not overwrite:
            raise StoreError(
                f"{self.path}: holds unfinished work; pass resume=True to continue it, or overwrite=True to start "
                "again."
            )
        elif finished and not overwrite and not append:
            raise StoreError(
                f"{self.path}: holds a finished store; pass overwrite=True to replace it, or append=True to add to it."
            )
        else:
            self._work.create(self._settings(), self._contents)
            self._state = "open"

    def _stand_on(self, begun: dict[str, Any] | None) -> None:
        """Take the finished store that is there for the rows and pairs before the new ones."""
        if not (self.path / MANIFEST_NAME).exists():
            raise StoreError(f"{self.path}: holds no finished store to append to; make one first.")
        base = CounterpartStore.open(self.path)
        if base.manifest.version < FORMAT_VERSION:
            raise StoreError(f"{self.path}: is a store of version 1, which cannot grow; convert it first.")
        if begun is not None and begun.get("base") not in (None, base.checksum):
            raise StoreError(f"{self.path}: has changed since the unfinished work in it was begun; {_AGAIN}.")
        if tuple(base.class_names[: len(self.class_names)]) == self.class_names:
            self.class_names = tuple(base.class_names)  # behind them it may keep the names of classes that it lost
        manifest = base.manifest
        settings = _settings_of(manifest, manifest.fingerprint, self._metadata)
        for name, value in self._settings().items():
            if name in _SAME_TO_GROW and settings[name] != value:
                raise StoreError(f"{self.path}: was made with another {name}; append what is for the same dataset.")
        self._require_content(base.file_contents)
        self._base = base
        self._contents = joined_contents(base.file_contents, self._contents)
        self._rows.extend(written_rows(base))
        self._pairs.restore(written_pairs(base))
        self._prompts = {prompt: index for index, prompt in enumerate(base.prompts)}
        self._base_rows, self._base_pairs, self._base_prompts = self._counts()
        self._boundary = self._counts()
        self._shards = self._shard_stream()

    def _settings(self) -> dict[str, Any]:
        return {
            "codec": self.codec.setting,  # first, since the rows of a shard depend on it
            **_settings_of(self, self._fingerprint, self._metadata),
            CONTENTS_KEY: None if self._contents is None else self._contents.checksum,
            "history": content_checksum({"history": self._history}),
            "base": None if self._base is None else self._base.checksum,
        }

    def _go_on_with(self, begun: FileContents | None) -> None:
        """Take over what was known of the samples' files at the start, from which they must not differ."""
        self._require_content(begun)
        self._contents = begun

    def _require_content(self, then: FileContents | None) -> None:
        if self._contents is None or then is None:
            return
        sample = self._contents.first_difference(then)
        if sample is not None:
            name = f"sample {sample}" if self._file_names is None else self._file_names[sample]
            raise StoreError(
                f"{self.path}: the file of {name} differs from the one that this store was begun with; put it back, or "
                "start again with overwrite."
            )

    def _compare(self, begun: dict[str, Any]) -> None:
        for name, value in self._settings().items():
            if name != CONTENTS_KEY and begun.get(name) != value:
                raise StoreError(
                    f"{self.path}: the argument {name} differs from the one that this store was begun with; "
                    "pass the same, or overwrite=True to start again."
                )

    def _restore(self) -> None:
        rows, pairs, prompts = self._work.resume()
        self._rows.extend(rows)
        self._pairs.restore(pairs)
        for prompt in prompts:
            self._prompts.setdefault(prompt, len(self._prompts))
        self._updates = copy.deepcopy(self._work.progress.updates)
        self._boundary = self._counts()
        self._shards.resume(rows, self._work.progress.shards)

    def _load_finished(self) -> None:
        store = CounterpartStore.open(self.path)
        manifest = store.manifest
        if manifest.version < FORMAT_VERSION:
            raise StoreError(f"{self.path}: is a finished store of version 1; convert it, or pass overwrite=True.")
        codecs = {shard.codec for shard in manifest.shards}
        # update_metadata cannot change the keys that the constructor was given
        metadata = {key: manifest.metadata.get(key, _MISSING) for key in self._metadata}
        self._compare(
            {
                **self._settings(),  # a finished store is compared by what it holds, not by how its files were written
                "codec": self.codec.setting if codecs <= {self.codec.name} else ", ".join(sorted(codecs)),
                **_settings_of(manifest, manifest.fingerprint, metadata),
                "history": content_checksum({"history": manifest.history[: len(self._history)]}),
            }
        )
        self._go_on_with(store.file_contents)
        self._updates = {key: value for key, value in manifest.metadata.items() if key not in self._metadata}
        self._rows.extend(written_rows(store))
        self._pairs.restore(written_pairs(store))
        self._prompts = {prompt: index for index, prompt in enumerate(store.prompts)}

    # Keeping

    def _counts(self) -> tuple[int, int, int]:
        return len(self._rows), len(self._pairs), len(self._prompts)

    def _make_room(self) -> None:
        """Before a row is added: complete a full shard, and make the durable point that is due."""
        num_rows = len(self._rows) - self._base_rows
        full = self._shards.is_full(num_rows)
        if full:
            with self._writing():
                self._shards.finish(num_rows)
        if self._auto_flush_rows is not None and (
            full or num_rows - self._work.progress.num_rows >= self._auto_flush_rows
        ):
            self._make_durable(self._counts())

    def _make_durable(self, counts: tuple[int, int, int]) -> None:
        """Flush the first `counts` rows, pairs and prompts, and only then say in `progress.json` that they count."""
        num_rows, num_pairs, num_prompts = counts
        with self._writing():
            self._shards.write_out(num_rows - self._base_rows)
            self._shards.sync()
            old = self._work.progress
            self._work.save(
                rows=self._rows.view(self._base_rows + old.num_rows, num_rows),
                pairs=self._pairs.view(self._base_pairs + old.num_pairs, num_pairs),
                prompts=list(self._prompts)[self._base_prompts + old.num_prompts : num_prompts],
                shards=self._shards.finished,
                updates=self._updates,
            )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except StoreError:
            self._state = "failed"
            raise

    # Ending

    def _release(self) -> None:
        self._state = "closed"
        self._shards.close()
        self._work.close()
        self._lock.release()

    def _commit(self) -> None:
        self._make_durable(self._counts())  # if the last step finds the disk full, at least nothing is lost
        new_rows = len(self._rows) - self._base_rows
        if self._base is not None and self._counts()[:2] == (self._base_rows, self._base_pairs):
            self._work.discard()
            return
        if self._shards.rows_here(new_rows):
            self._shards.finish(new_rows)
        first = 0 if self._base is None else len(self._base.manifest.shards)
        shards = tuple(
            FileEntry(
                name=shard_name(first + index, checksum),
                size=size,
                checksum=checksum,
                rows=min(self.rows_per_shard, new_rows - index * self.rows_per_shard),
                codec=self.codec.name,
            )
            for index, (size, checksum) in enumerate(self._shards.finished)
        )
        manifest = Manifest(
            image_shape=self.image_shape,
            num_rows=len(self._rows),
            num_pairs=len(self._pairs),
            rows_per_shard=self.rows_per_shard,
            class_names=self.class_names,
            prompts=tuple(self._prompts),
            fingerprint=self._fingerprint,
            metadata={**self._metadata, **self._updates},
            shards=shards,
            rows=write_rows(self._work.folder, self._rows.view()),
            pairs=write_pairs(self._work.folder, self._pairs.view(), self._labels, self._name_digests, self._contents),
            history=self._history,
        )
        if self._base is not None:
            manifest = _grown(self._base.manifest, manifest)
        replace_file(self._work.folder / MANIFEST_NAME, manifest.encode())
        self._work.close()  # open files could not be moved everywhere
        publish(self.path, check=False)


def _grown(old: Manifest, new: Manifest) -> Manifest:
    """The manifest of a store that was `old` and to which the shards, and all rows and pairs, of `new` belong now."""
    entry = {
        "operation": "append",
        "before": old.checksum,
        "rows": [old.num_rows, new.num_rows],
        "pairs": [old.num_pairs, new.num_pairs],
        "metadata": old.metadata,
    }
    return dataclasses.replace(
        new,
        rows_per_shard=max(old.rows_per_shard, new.rows_per_shard),
        metadata={**old.metadata, **new.metadata},
        shards=(*old.shards, *new.shards),
        history=(*old.history, entry),
        superseded=tuple(file.name for file in old.tables),
    )


def _settings_of(
    store: StoreInTheMaking | Manifest, fingerprint: DatasetFingerprint, metadata: Mapping[str, Any]
) -> dict[str, Any]:
    """What a writer that resumes must have been given again."""
    return {
        "version": FORMAT_VERSION,
        "num_samples": store.num_samples,
        "image_shape": list(store.image_shape),
        "class_names": list(store.class_names),
        "labels": fingerprint.labels,
        "file_names": fingerprint.file_names,
        "rows_per_shard": store.rows_per_shard,
        "metadata": metadata,
    }
