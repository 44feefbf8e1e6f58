"""Putting a complete store in the place of what is there: new files beside the old ones, then one swap."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from diffcore_gpu.errors import StoreError
from diffcore_gpu.store.durable import file_checksum, named_os_errors, sync_folder
from diffcore_gpu.store.format import MANIFEST_NAME, is_store_file
from diffcore_gpu.store.manifest import FileEntry, Manifest, read_manifest
from diffcore_gpu.store.shard_stream import part_name
from diffcore_gpu.store.workspace import FOLDER_NAME, SETTINGS_NAME


def is_complete(folder: Path) -> bool:
    """Whether `unfinished/` in this store's folder holds a store that only has to be moved into place."""
    return (folder / FOLDER_NAME / MANIFEST_NAME).exists()


def publish(folder: Path, *, check: bool) -> None:
    """Move a complete store from `unfinished/` into `folder`, replacing the store that was there.

    Files never change under their names, so the store that was there stays whole until `store.json` is swapped.

    Args:
        folder: the store's folder.
        check: read and hash the files first, as they may have been damaged since they were written.

    Raises:
        StoreError: a file is not what was written; or the system refuses a step: then calling again continues.
    """
    source = folder / FOLDER_NAME
    manifest, intact = read_manifest(source / MANIFEST_NAME)
    if not intact:
        raise StoreError(
            f"{source / MANIFEST_NAME}: damaged: its content does not have its checksum; remove the folder {source} "
            "and start again."
        )
    moves = list(_moves(source, folder, manifest))
    if check:
        for old, new, file in moves:
            path = old if old.exists() else new
            if not path.exists() or path.stat().st_size != file.size or file_checksum(path) != file.checksum:
                raise StoreError(
                    f"{path}: damaged: it is not the file that was written; remove the folder {source} and start again."
                )
    with named_os_errors(folder, "the finished store cannot be moved into place"):
        for old, new, _ in moves:
            if old.exists():  # else an earlier call moved it, or it was there before
                old.replace(new)
        sync_folder(folder)
        _clear(source)
        (source / MANIFEST_NAME).replace(folder / MANIFEST_NAME)
        sync_folder(folder)
    remove_leftovers(folder)


def _moves(source: Path, folder: Path, manifest: Manifest) -> Iterator[tuple[Path, Path, FileEntry]]:
    for index, shard in enumerate(manifest.shards):
        yield source / part_name(index), folder / shard.name, shard
    for table in manifest.tables:
        yield source / table.name, folder / table.name, table


def remove_leftovers(folder: Path) -> None:
    """Remove what a finished store does not need: files of stores before it, an `unfinished/` without work in it."""
    manifest, intact = read_manifest(folder / MANIFEST_NAME)
    if not intact:  # who opens it says so; nothing is removed on its word
        return
    needed = {file.name for file in manifest.files} | set(manifest.superseded)
    source = folder / FOLDER_NAME
    with named_os_errors(folder, "what is left of an older store cannot be removed"):
        for path in folder.iterdir():
            if is_store_file(path.name) and path.name not in needed:
                path.unlink()
        if source.exists() and not (source / SETTINGS_NAME).exists():
            shutil.rmtree(source)
        sync_folder(folder)


def _clear(source: Path) -> None:
    # settings.json first, for good: without it the rest is no work to resume
    (source / SETTINGS_NAME).unlink(missing_ok=True)
    sync_folder(source)
    for path in source.iterdir():
        if path.name != MANIFEST_NAME:
            path.unlink()
