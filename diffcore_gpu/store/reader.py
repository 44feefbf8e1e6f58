"""Reading a store: opened at the cost of its small tables and of its number of shards, not of its images."""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.context import get_spawning_popen
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from diffcore_gpu.errors import StoreError
from diffcore_gpu.store.binding import check_binding
from diffcore_gpu.store.checks import integer
from diffcore_gpu.store.contents import Indices, StoreContents, Verify
from diffcore_gpu.store.durable import named_os_errors
from diffcore_gpu.store.files import Locate, Place
from diffcore_gpu.store.fingerprint import Int64Array
from diffcore_gpu.store.format import MANIFEST_NAME
from diffcore_gpu.store.manifest import parse_manifest, read_manifest
from diffcore_gpu.store.real_files import Content
from diffcore_gpu.store.remote.location import RemoteFolder, is_flattened_url, is_url
from diffcore_gpu.store.shard_reader import Reading
from diffcore_gpu.store.verification import verify_store
from diffcore_gpu.store.workspace import FOLDER_NAME as WORK_FOLDER


class CounterpartStore(StoreContents):
    """A finished store, read-only. `CounterpartStore.open` makes it.

    What was opened stays what it was: labels and pairs are in memory, checked against their SHA-256; the columns of the
    rows are read when they are first asked for, and checked likewise; shards are watched, and one that is gone, was cut
    short or became another file is a `StoreError` of `images`.

    Where the shards are mapped, `image` and `image_shards` are private maps of the files: they cost memory only where
    they are read, and nothing that a process does to them reaches the disk, but other users of this object would see
    it. A file that is cut short under such a map ends the process when it is touched (SIGBUS); `images`, which copies,
    looks first and raises, and so does `require_unchanged`. Read by "pread", a cut file is always an error.

    The object may be used from several threads, survives a fork, is pickled as its path and manifest (a `DataLoader`
    worker opens the store anew: the one that this is, also where it has grown meanwhile, or an error), and is shared
    rather than copied by `copy.deepcopy`.

    Attributes:
        path: the store's folder, absolute; of a store behind a URL what stands for it: `str` gives the URL without
            anything secret.
        image_shape: (C, H, W) of every image.
        class_names: the name of each class, by its number.
        prompts: the text of each prompt, by its id.
        fingerprint: of the dataset that the store was made for.
        metadata: how the store was made.
        labels: int64 [num_samples], the class number of each sample of the dataset.
        pair_ptr: int64 [num_samples + 1]; the pairs of sample i are [pair_ptr[i], pair_ptr[i + 1]).
        pair_row: int64 [num_pairs]; the rows of a sample, the most similar first.
        pair_similarity: float32 [num_pairs]; NaN where it was not measured.
        file_contents: size and digest of each sample's file, as far as known; None: of none.
        checksum: SHA-256 (hexadecimal) that identifies the store with all its content.
    """

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        reading: Reading | Literal["auto"] = "auto",
        verify: Verify = None,
        storage_options: Mapping[str, Any] | None = None,
        cache: str | Path | None = None,
        cache_bytes: int | None = None,
    ) -> CounterpartStore:
        """Open a finished store.

        Reads `store.json`, the samples and pairs, and the header of each shard, not the images; `verify` reads those.
        Of a store behind a URL it fetches `store.json`, samples and pairs; a shard is fetched when a row of it is first
        read, and the next ones in the background.

        Args:
            path: the store's folder, or its URL: `s3://bucket/store`, `gs://…`, `https://…`, `hf://datasets/owner/name`
                and whatever else fsspec reads (extra `remote`).
            reading: "map": shards are mapped into memory; "pread": read by position, so that a file which is cut short
                meanwhile is an error and not a signal; "auto": mapped, unless the folder lies on a file system of a
                network or a shard is encoded.
            verify: "lazy": every row is compared with its digest when it is first read, by this process or one that it
                has started, such as a worker of a `DataLoader`.
            storage_options: of a URL, how fsspec connects: credentials, an endpoint; None: as its library finds out
                by itself, from the environment and configuration files.
            cache: of a URL, the folder of the files on this machine; None: `$DIFFCORE_CACHE`, else
                `~/.cache/diffcore-gpu`.
            cache_bytes: of a URL, how many bytes the files in that folder may take; None: half of what is free there.

        Raises:
            StoreError: if there is no finished store at `path`, its files are missing, damaged, of another size or form
                than `store.json` says, or of a format version that is newer than this library; or a server cannot be
                reached, denies access, or sends something else than `store.json` calls for.
            ValueError: `reading` or `verify` is something else.
        """
        if reading not in ("auto", "map", "pread"):
            raise ValueError(f"reading must be 'auto', 'map' or 'pread', got {reading!r}.")
        if verify not in (None, "lazy"):
            raise ValueError(f"verify must be None or 'lazy', got {verify!r}.")
        if is_url(path):
            return cls._open_remote(RemoteFolder(str(path), storage_options), reading, verify, cache, cache_bytes)
        folder = Path(path).absolute()
        with named_os_errors(folder, "cannot be read"):
            try:
                if not stat.S_ISDIR(folder.stat().st_mode):
                    raise StoreError(f"{folder}: is a file; a store is a folder.")
            except FileNotFoundError:
                hint = "; a URL is given as a string" if is_flattened_url(path) else ""
                raise StoreError(f"{folder}: there is no such folder{hint}.") from None
        if not (folder / MANIFEST_NAME).exists() and (folder / WORK_FOLDER).is_dir():
            raise StoreError(
                f"{folder / MANIFEST_NAME}: missing; this store is unfinished: complete it with what writes it "
                "(CounterpartWriter with resume=True)."
            )
        manifest, intact = read_manifest(folder / MANIFEST_NAME)
        try:
            store = cls(folder, manifest, reading=reading, verify=verify)
        except StoreError:
            # A writer may have put another store in its place between the two.
            again, intact = read_manifest(folder / MANIFEST_NAME)
            if again.checksum == manifest.checksum:
                raise
            store = cls(folder, again, reading=reading, verify=verify)
        # last, because each check before it names a more particular cause
        if not intact:
            raise StoreError(f"{folder / MANIFEST_NAME}: damaged or edited: its content does not have its checksum.")
        return store

    @classmethod
    def _open_remote(
        cls,
        folder: RemoteFolder,
        reading: Reading | Literal["auto"],
        verify: Verify,
        cache: str | Path | None,
        cache_bytes: int | None,
    ) -> CounterpartStore:
        from diffcore_gpu.store.remote.cache import FileCache
        from diffcore_gpu.store.remote.files import RemoteFiles, fetch_manifest

        manifest, _ = fetch_manifest(folder)
        files = FileCache(cache, cache_bytes)
        try:
            return cls(
                folder, manifest, reading=reading, verify=verify, locate=RemoteFiles(folder, files, manifest.shards)
            )
        except StoreError:
            # Another store may have been put there between the two.
            again, _ = fetch_manifest(folder)
            if again.checksum == manifest.checksum:
                raise
            return cls(folder, again, reading=reading, verify=verify, locate=RemoteFiles(folder, files, again.shards))

    # Pairs

    def rows(self, sample: int) -> torch.Tensor:
        """The rows paired with `sample` (in [0, num_samples)), the most similar first: int64 [k], a view; k may be 0.

        Raises:
            StoreError: if the index is out of range.
        """
        return self.pair_row[self._pair_range(sample)]

    def similarities(self, sample: int) -> torch.Tensor:
        """The similarity of each of `rows(sample)`: float32 [k], a view; NaN where it was not measured.

        Raises:
            StoreError: if the index is out of range.
        """
        return self.pair_similarity[self._pair_range(sample)]

    def _pair_range(self, sample: int) -> slice:
        index = integer(f"{self.path}: sample", sample, range(self.num_samples))
        begin, end = int(self.pair_ptr[index]), int(self.pair_ptr[index + 1])
        if not 0 <= begin <= end <= self.num_pairs:
            raise StoreError(
                f"{self.path / self.manifest.pairs.name}: damaged: the pairs of sample {index} are misplaced."
            )
        return slice(begin, end)

    def restricted_to(self, samples: Indices) -> CounterpartStore:
        """The same store, in which only the given samples have counterparts: coverage as a switch.

        The images stay where they are; nothing is copied but the pairs.

        Args:
            samples: dataset indices in [0, num_samples), in any order, any integer type.

        Returns:
            A store of the same rows, with the pairs of these samples alone.

        Raises:
            StoreError: if an index is out of range or no integer.
        """
        index = self._numbers(samples, "sample", self.num_samples)
        store: CounterpartStore = object.__new__(type(self))
        store.__dict__.update(self.__dict__)
        store._coverage, store._only = None, index if self._only is None else np.intersect1d(index, self._only)
        store.pair_ptr, chosen = pairs_of(self.pair_ptr, index)
        store.pair_row, store.pair_similarity = self.pair_row[chosen], self.pair_similarity[chosen]
        return store

    # Rows

    def images(self, rows: Indices, out: torch.Tensor | None = None) -> torch.Tensor:
        """Copy images out of the store.

        Args:
            rows: row numbers in [0, num_rows), [n], any integer type, in any order, repeats allowed.
            out: a contiguous uint8 CPU tensor [n, C, H, W] (pinned, say) to copy into; None: a fresh one.

        Returns:
            uint8 [n, C, H, W] on the CPU: `out`, or the fresh tensor.

        Raises:
            StoreError: if a row is out of range, `out` does not fit, or a file has changed since the store was opened.
        """
        index = self._row_index(rows)
        shape = (len(index), *self.image_shape)
        if out is None:
            out = torch.empty(shape, dtype=torch.uint8)
        elif out.shape != shape or out.dtype != torch.uint8 or out.device.type != "cpu" or not out.is_contiguous():
            raise StoreError(f"{self.path}: out must be a contiguous uint8 CPU tensor of shape {list(shape)}.")
        if len(index):
            self.copy_rows(index, out, self._check)
        return out

    def image(self, row: int) -> torch.Tensor:
        """The image of one row in [0, num_rows): uint8 [C, H, W], without a copy where the store is mapped.

        Raises:
            StoreError: as `images`.
        """
        index = integer(f"{self.path}: row", row, range(self.num_rows))
        if not self.is_mapped:
            return self.images(index)[0]
        number = int(np.searchsorted(self._ends, index, side="right"))
        return self.image_shards[number][index - int(self._ends[number])]

    # Checks

    def verify(self) -> None:
        """Read everything and check it: checksums, labels of rows and samples, prompts, order and range of the pairs.

        Raises:
            StoreError: naming the file and the first thing that is wrong.
        """
        verify_store(self)

    def bind(
        self,
        dataset: object,
        labels: Sequence[int] | torch.Tensor | npt.NDArray[Any] | None = None,
        file_names: Sequence[str] | None = None,
        *,
        content: Content | None = "sample",
        root: str | Path | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> CounterpartStore:
        """Check that this store was made for `dataset`: a wrong pairing poisons training without a sound.

        Length and labels must be equal, and the file names too where both the store and the dataset have them; where
        the dataset has none, length and labels decide. Where the dataset shows the paths of its files, and the store
        knows what they held, size and digest of some or all of them must be equal as well.

        What is compared is the dataset whose positions are used as sample indices: a `Subset` of an `IndexedDataset`
        yields indices of the dataset inside, so that is compared; any other `Subset` is compared as it stands.

        Args:
            dataset: anything with `__len__`. Labels are taken from `targets`, `labels`, `_labels`, `y`, `samples` or
                `imgs`, or a column `label` or `labels`; names from `samples` or `imgs`, relative to `root`.
            labels: the labels [len(dataset)], where the dataset does not show them.
            file_names: the names [len(dataset)], relative to the dataset's folder, with `/` as separator.
            content: "sample": 256 files at most are read, spread evenly over those that the store knows, and none where
                the paths that the dataset shows lead to no files; "full": all that the store knows; None: none. Without
                paths, in `samples`, in `imgs`, or as `root` and file names, "sample" reads none.
            root: the folder of the files, where it is not the dataset's.
            progress: gets (done, total) of the files that are read.

        Returns:
            This store, so that `open(...).bind(dataset)` can be written.

        Raises:
            StoreError: naming what differs, and the first sample where it does; or if the dataset has no length, or its
                labels cannot be found without decoding every image; or "full" asks for what cannot be compared.
            ValueError: `content` is something else.
        """
        check_binding(self, dataset, labels, file_names, content, root, progress)
        self._bound = True
        return self

    @property
    def is_bound(self) -> bool:
        """Whether `bind` has found that this store, or the one that it was copied or pickled from, fits a dataset."""
        return self._bound

    # Python

    def __repr__(self) -> str:
        channels, height, width = self.image_shape
        return (
            f"CounterpartStore({str(self.path)!r}: {self.num_rows} rows of {channels}×{height}×{width}, "
            f"{self.num_pairs} pairs, {self.num_samples} samples, {len(self.class_names)} classes)"
        )

    def __reduce__(self) -> tuple[object, ...]:
        if self._locate is not None:
            return _reopen_located, (self.path, self.manifest.encode(), self._kept(), self._locate)
        return _reopen, (str(self.path), self.manifest.encode(), self._kept())

    def _kept(self) -> _Kept:
        # What was checked holds for the processes that this one starts, not for a pickle that lies somewhere.
        seen = None if self._check is None or get_spawning_popen() is None else self._check.seen
        return _Kept(*self._asked, self._only, self._bound, seen)

    def __copy__(self) -> CounterpartStore:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> CounterpartStore:
        return self


class _Kept(NamedTuple):
    """What a pickled store keeps beside its place and its manifest."""

    reading: Reading | Literal["auto"]
    verify: Verify
    only: Int64Array | None
    bound: bool
    seen: torch.Tensor | None

    def given_to(self, store: CounterpartStore) -> CounterpartStore:
        """The store, with the same samples and as bound."""
        store._bound = self.bound
        return store if self.only is None else store.restricted_to(self.only)


def _reopen(path: str, manifest: bytes, kept: _Kept) -> CounterpartStore:
    wanted, _ = parse_manifest(path, manifest)
    try:
        store = CounterpartStore(Path(path), wanted, reading=kept.reading, verify=kept.verify, seen=kept.seen)
    except StoreError as error:
        if _manifest_there(path) == wanted.checksum:
            raise
        raise StoreError(f"{path}: another store has been put there since it was opened; open it again.") from error
    return kept.given_to(store)


def _reopen_located(path: Place, manifest: bytes, kept: _Kept, locate: Locate) -> CounterpartStore:
    """The store that was pickled, whatever is behind its URL now; nothing is asked for that the cache has."""
    wanted, _ = parse_manifest(path, manifest)
    store = CounterpartStore(path, wanted, reading=kept.reading, verify=kept.verify, seen=kept.seen, locate=locate)
    return kept.given_to(store)


def _manifest_there(path: str) -> str | None:
    """The checksum of the store that is at `path` now, if there is one."""
    try:
        return read_manifest(Path(path) / MANIFEST_NAME)[0].checksum
    except StoreError:
        return None


def pairs_of(pair_ptr: torch.Tensor, samples: Int64Array) -> tuple[torch.Tensor, torch.Tensor]:
    """Leave out the pairs of all other samples.

    Args:
        pair_ptr: int64 [num_samples + 1].
        samples: int64 [n], each in [0, num_samples); repeats are allowed.

    Returns:
        The new pair_ptr, int64 [num_samples + 1], and which of the old pairs remain, int64 [pairs], ascending.
    """
    kept = torch.zeros(pair_ptr.shape[0] - 1, dtype=torch.bool)
    kept[torch.from_numpy(samples)] = True
    counts = pair_ptr.diff()
    new = torch.zeros_like(pair_ptr)
    torch.cumsum(torch.where(kept, counts, 0), 0, out=new[1:])
    return new, torch.repeat_interleave(kept, counts).nonzero().flatten()
