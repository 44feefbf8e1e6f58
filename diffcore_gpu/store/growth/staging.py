"""A change of a finished store: made in `unfinished/` beside what is there, then swapped in; one process at a time.

Killed at any step, the store is the old one or the new one. What had been prepared whole is put into place by whoever
changes or writes the store next; what had not is removed.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from diffcore_gpu.errors import StoreError
from diffcore_gpu.store.durable import WriterLock, make_folder, named_os_errors, replace_file, sync_folder
from diffcore_gpu.store.format import FORMAT_VERSION, MANIFEST_NAME
from diffcore_gpu.store.manifest import Manifest, read_manifest
from diffcore_gpu.store.publication import is_complete, publish, remove_leftovers
from diffcore_gpu.store.reader import CounterpartStore
from diffcore_gpu.store.remote.location import is_flattened_url, is_url, shown_place
from diffcore_gpu.store.workspace import FOLDER_NAME, Workspace


def require_folder(path: str | Path) -> None:
    """Refuse a URL, where a store can be read but not changed.

    Raises:
        StoreError: it is one.
    """
    if is_url(path) or is_flattened_url(path):
        raise StoreError(f"{shown_place(str(path))}: is a URL; change a store in a folder, and push it there.")


def settle(path: str | Path) -> None:
    """Put a store into place that was complete when its writer was killed; nothing happens where there is none.

    What looks at a store before it asks for a writer calls this first, so that both see the same one.

    Raises:
        StoreError: a file of the new store is damaged, it cannot be moved, or another writer is at work.
    """
    folder = Path(path).absolute()
    if not is_complete(folder):
        return
    lock = WriterLock(folder)
    try:
        if is_complete(folder):
            publish(folder, check=True)
    finally:
        lock.release()


class Staging:
    """Holds the writer's lock of a store's folder and prepares what it becomes; a context manager.

    Args:
        path: the store's folder.
        make: whether there need not be a store yet; then the folder is made where it is missing.

    Attributes:
        path: the store's folder, absolute.

    Raises:
        StoreError: there is no finished store, or it is of version 1; it holds unfinished work; or another writer is at
            work.
    """

    def __init__(self, path: str | Path, *, make: bool = False) -> None:
        require_folder(path)
        self.path = Path(path).absolute()
        if self.path.exists() and not self.path.is_dir():
            raise StoreError(f"{self.path}: is a file; a store is a folder.")
        if make:
            with named_os_errors(self.path):
                make_folder(self.path)
        elif not is_complete(self.path):
            read_manifest(self.path / MANIFEST_NAME)  # names what is missing, before the lock makes a file
        self._lock = WriterLock(self.path)
        try:
            self._settle()
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> Staging:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if not is_complete(self.path):
                self._clear()
        finally:
            self._lock.release()

    def _settle(self) -> None:
        if is_complete(self.path):  # the process before was killed while it moved its store into place
            publish(self.path, check=True)
        if Workspace(self.path).settings() is not None:
            raise StoreError(
                f"{self.path}: holds unfinished work; complete it first, or remove the folder {FOLDER_NAME} in it."
            )
        if self.is_finished:
            remove_leftovers(self.path)

    @property
    def is_finished(self) -> bool:
        """Whether there is a finished store."""
        return (self.path / MANIFEST_NAME).exists()

    def open(self) -> CounterpartStore:
        """The store that is there.

        Raises:
            StoreError: it is damaged, or of version 1, which is not written any more.
        """
        store = CounterpartStore.open(self.path)
        if store.manifest.version < FORMAT_VERSION:
            raise StoreError(f"{self.path}: is a store of version 1, which cannot be changed; convert it first.")
        return store

    def folder(self) -> Path:
        """An empty folder for the files of the new store, named as `publish` expects them."""
        folder = self.path / FOLDER_NAME
        self._clear()
        with named_os_errors(folder):
            folder.mkdir()
            sync_folder(self.path)
        return folder

    def _clear(self) -> None:
        folder = self.path / FOLDER_NAME
        if folder.exists() and Workspace(self.path).settings() is None:
            with named_os_errors(folder, "cannot be removed"):
                shutil.rmtree(folder)

    def publish(self, manifest: Manifest) -> None:
        """Swap the new store in: its files lie in `folder()`, or have been in the store before."""
        replace_file(self.path / FOLDER_NAME / MANIFEST_NAME, manifest.encode())
        publish(self.path, check=False)


def manifest_after(old: Manifest, operation: str, about: Mapping[str, Any], **fields: Any) -> Manifest:
    """The manifest of a store after an operation.

    Args:
        old: before it.
        operation: its name, for the history.
        about: what else the history keeps of it, JSON-able values.
        fields: those of the manifest that are other ones now.
    """
    entry = {"operation": operation, "before": old.checksum, **about}
    new = dataclasses.replace(old, **fields, history=(*old.history, entry))
    present = {file.name for file in new.files}
    return dataclasses.replace(new, superseded=tuple(file.name for file in old.tables if file.name not in present))
