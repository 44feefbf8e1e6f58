"""Where a store is pushed to: a folder of any file system that fsspec writes, or a dataset on the Hugging Face Hub."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from diffcore_gpu.errors import StoreError, clause
from diffcore_gpu.store.manifest import FileEntry
from diffcore_gpu.store.remote.faults import BrokenTransferError, library_errors
from diffcore_gpu.store.remote.location import RemoteFolder
from diffcore_gpu.store.remote.transfer import PARTIAL_SUFFIX, run_in, with_tries

_MD5 = re.compile(r'"?([0-9a-f]{32})"?')
_DATASET = re.compile(r"hf://datasets/([^/@]+/[^/@]+)(?:@([^/]+))?(?:/(.+?))?/?")
_FLAT = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory")  # names with slashes need no folder
_DISKS = ("file", "local")  # where a file grows under its name while it is written


class Target(Protocol):
    """Where files go.

    Attributes:
        at_once: how many files are sent by one call.
    """

    at_once: int

    def prepare(self) -> None:
        """Make the place, where that is needed."""
        ...

    def present(self, files: Sequence[tuple[FileEntry, Path]], *, by_name: bool) -> set[str]:
        """Names of those files that are there already, whole.

        Args:
            files: each with its path on this machine.
            by_name: whether a file of that name and size is the same one; otherwise the server must tell its checksum.
        """
        ...

    def send(self, files: Sequence[tuple[str, Path]]) -> None:
        """Put files there, by name."""
        ...

    def finish(self, files: Mapping[str, bytes]) -> None:
        """Put the small files there that make it a store, in this order; the last is `store.json`."""
        ...


class FolderTarget:
    """A folder of object storage, of a file server, …"""

    at_once = 1

    def __init__(self, folder: RemoteFolder) -> None:
        if folder.scheme in ("http", "https"):
            raise StoreError(f"{folder}: a web server can only be read from; push to the storage behind it.")
        self._folder = folder

    def prepare(self) -> None:
        """See `Target`; a bucket is not made."""
        if self._folder.scheme not in _FLAT:
            path = self._folder.path("").rstrip("/")
            with_tries(str(self._folder), lambda: self._folder.fs.makedirs(path, exist_ok=True))

    def present(self, files: Sequence[tuple[FileEntry, Path]], *, by_name: bool) -> set[str]:
        """See `Target`."""
        fs = self._folder.fs
        fs.invalidate_cache()
        found = set()
        for file, path in files:
            try:
                told = fs.info(self._folder.path(file.name))
            except library_errors():
                continue  # not there; if it is something worse, sending says so
            same = _same_content(told, path)
            if told.get("size") == file.size and (by_name if same is None else same):
                found.add(file.name)
        return found

    def send(self, files: Sequence[tuple[str, Path]]) -> None:
        """See `Target`."""
        for name, path in files:
            with_tries(self._folder.shown(name), lambda name=name, path=path: self._send(name, path))  # type: ignore[misc]

    def _send(self, name: str, path: Path) -> None:
        fs, there = self._folder.fs, self._folder.path(name)
        if fs.async_impl:
            run_in(fs, fs._put_file(str(path), there))
        else:
            fs.put_file(str(path), there)
        fs.invalidate_cache()
        size = fs.info(there)["size"]
        if size != path.stat().st_size:
            raise BrokenTransferError(f"{size} bytes arrived of {path.stat().st_size}.")

    def finish(self, files: Mapping[str, bytes]) -> None:
        """See `Target`."""
        for name, data in files.items():
            with_tries(self._folder.shown(name), lambda name=name, data=data: self._put(name, data))  # type: ignore[misc]

    def _put(self, name: str, data: bytes) -> None:
        """Write a small file; where that is not done at once, as object storage does, beside its name first."""
        fs, place = self._folder.fs, self._folder.path(name)
        if self._folder.scheme not in _DISKS:
            fs.pipe_file(place, data)
            return
        fs.pipe_file(place + PARTIAL_SUFFIX, data)
        fs.mv(place + PARTIAL_SUFFIX, place)


class HubTarget:
    """A dataset on the Hugging Face Hub, which is made if it is missing, private; some files go into one commit.

    Raises:
        StoreError: the URL does not name a dataset, or huggingface_hub is not installed.
    """

    at_once = 20

    def __init__(self, folder: RemoteFolder) -> None:
        found = _DATASET.fullmatch(folder.url)
        if found is None:
            raise StoreError(f"{folder}: a store is pushed to a dataset of the Hub: hf://datasets/OWNER/NAME.")
        from huggingface_hub import HfApi

        self._folder = folder
        self._repo, self._revision, self._inside = found[1], found[2], found[3] or ""
        self._api = HfApi(endpoint=folder.options.get("endpoint"), token=folder.options.get("token"))

    def prepare(self) -> None:
        """See `Target`."""
        with_tries(
            str(self._folder),
            lambda: self._api.create_repo(self._repo, repo_type="dataset", private=True, exist_ok=True),
        )

    def present(self, files: Sequence[tuple[FileEntry, Path]], *, by_name: bool) -> set[str]:
        """See `Target`; the Hub tells the SHA-256 of files that it keeps in LFS, as it does ours."""
        entries = {self._path(file.name): file for file, _ in files}
        told = with_tries(
            str(self._folder),
            lambda: self._api.get_paths_info(self._repo, list(entries), repo_type="dataset", revision=self._revision),
        )
        return {
            entries[item.path].name
            for item in told
            if item.path in entries and getattr(getattr(item, "lfs", None), "sha256", "") == entries[item.path].checksum
        }

    def send(self, files: Sequence[tuple[str, Path]]) -> None:
        """See `Target`."""
        self._commit({name: str(path) for name, path in files}, f"Upload {len(files)} files of a counterpart store")

    def finish(self, files: Mapping[str, bytes]) -> None:
        """See `Target`."""
        self._commit(dict(files), "Publish a counterpart store")

    def _commit(self, files: Mapping[str, str | bytes], message: str) -> None:
        from huggingface_hub import CommitOperationAdd

        operations = [CommitOperationAdd(self._path(name), content) for name, content in files.items()]

        def commit() -> None:
            try:
                self._api.create_commit(
                    self._repo, operations, commit_message=message, repo_type="dataset", revision=self._revision
                )
            except RuntimeError as error:  # what huggingface_hub makes of an error while a large file is sent
                if isinstance(error.__cause__, library_errors()):
                    raise error.__cause__ from None
                raise BrokenTransferError(f"{clause(error)}.") from None

        with_tries(str(self._folder), commit)

    def _path(self, name: str) -> str:
        return f"{self._inside}/{name}".lstrip("/")


def target_of(folder: RemoteFolder) -> Target:
    """The way to push into a folder; `StoreError` where there is none."""
    return HubTarget(folder) if folder.scheme == "hf" else FolderTarget(folder)


def _same_content(told: Mapping[str, Any], path: Path) -> bool | None:
    """Whether a server's own checksum is that of a file here; None: it tells none."""
    found = _MD5.fullmatch(str(told.get("ETag", "")))  # of what S3 got in one piece
    if found is None:
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() == found[1]
