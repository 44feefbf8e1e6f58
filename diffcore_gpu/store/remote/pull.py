"""Bringing a remote store into a folder of this machine, where it is a store like any other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffcore_gpu.errors import StoreError
from diffcore_gpu.store.durable import WriterLock, file_checksum, make_folder, named_os_errors, replace_file
from diffcore_gpu.store.format import MANIFEST_NAME
from diffcore_gpu.store.manifest import FileEntry, Manifest, read_manifest
from diffcore_gpu.store.publication import remove_leftovers
from diffcore_gpu.store.reader import CounterpartStore
from diffcore_gpu.store.remote.files import fetch_manifest
from diffcore_gpu.store.remote.location import RemoteFolder, is_url
from diffcore_gpu.store.remote.push import Progress
from diffcore_gpu.store.remote.transfer import PARTIAL_SUFFIX, download
from diffcore_gpu.store.workspace import FOLDER_NAME, SETTINGS_NAME


@dataclass(frozen=True)
class PullReport:
    """What a pull did.

    Attributes:
        store: the folder, absolute.
        fetched: names of the files that were fetched.
        present: names of those that were there already.
        fetched_bytes: of the former, together.
    """

    store: Path
    fetched: tuple[str, ...]
    present: tuple[str, ...]
    fetched_bytes: int


def pull(
    url: str,
    store: str | Path,
    *,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> PullReport:
    """Bring a remote store into a folder: byte for byte what it was where it was pushed from.

    Every file is verified when it arrives, and `store.json` comes last. A pull that broke off is gone on with by the
    same call, in the middle of a file where the server can do that; files that are there already are hashed, not
    fetched.

    Args:
        url: where the store is, see `CounterpartStore.open`.
        store: the folder; it is made.
        overwrite: replace another store that is there.
        storage_options: see `CounterpartStore.open`.
        progress: hears of the progress.

    Returns:
        What was fetched.

    Raises:
        StoreError: there is no store behind the URL, or it stays out of reach or wrong; another store, or the work of
            an unfinished one, is in the folder; or the folder cannot be written.
    """
    if is_url(store):
        raise StoreError(f"{RemoteFolder(str(store))}: a store is pulled into a folder of this machine.")
    folder, source = Path(store).absolute(), RemoteFolder(url, storage_options)
    manifest, raw = fetch_manifest(source)
    with named_os_errors(folder):
        make_folder(folder)
    lock = WriterLock(folder)
    try:
        _refuse_other(folder, manifest, overwrite)
        fetched, present = _fetch(source, folder, manifest, progress or (lambda done, total: None))
        replace_file(folder / MANIFEST_NAME, raw)
        remove_leftovers(folder)
        _remove_parts(folder)
    finally:
        lock.release()
    CounterpartStore.open(folder)
    return PullReport(
        store=folder,
        fetched=tuple(file.name for file in fetched),
        present=tuple(file.name for file in present),
        fetched_bytes=sum(file.size for file in fetched),
    )


def _refuse_other(folder: Path, manifest: Manifest, overwrite: bool) -> None:
    if (folder / FOLDER_NAME / SETTINGS_NAME).exists():
        raise StoreError(f"{folder}: holds an unfinished store; finish or remove it, or pull into another folder.")
    if not (folder / MANIFEST_NAME).exists():
        return
    there, _ = read_manifest(folder / MANIFEST_NAME)
    if there.checksum == manifest.checksum:
        return
    if manifest.version == 1:
        raise StoreError(f"{folder}: holds another store, and this one is of version 1; pull it into an empty folder.")
    if not overwrite:
        raise StoreError(f"{folder}: holds another store; give overwrite (--overwrite) to replace it.")


def _remove_parts(folder: Path) -> None:
    """What is left of pulls of other stores that broke off."""
    with named_os_errors(folder):
        for path in folder.glob(f"*.safetensors{PARTIAL_SUFFIX}"):
            path.unlink()


def _fetch(
    source: RemoteFolder, folder: Path, manifest: Manifest, progress: Progress
) -> tuple[list[FileEntry], list[FileEntry]]:
    total = sum(file.size for file in manifest.files)
    fetched: list[FileEntry] = []
    present: list[FileEntry] = []
    done = 0
    progress(0, total)
    for file in manifest.files:
        path = folder / file.name
        if _is_there(path, file):
            present.append(file)
        else:
            before = done
            download(source, file, path, lambda arrived, before=before: progress(before + arrived, total))  # type: ignore[misc]
            fetched.append(file)
        done += file.size
        progress(done, total)
    return fetched, present


def _is_there(path: Path, file: FileEntry) -> bool:
    if not path.is_file() or path.is_symlink() or path.stat().st_size != file.size:
        return False
    return file_checksum(path) == file.checksum
