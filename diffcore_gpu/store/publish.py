"""The end of a writer's work: from `unfinished/` to the store, in steps that can be repeated after a crash.

Once `unfinished/store.json` exists the new store is complete on disk, and every step from there only moves it into
place. A process killed in between leaves the rest to the next writer, which calls `publish` before anything else.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from diffcore_gpu.store.durable import named_os_errors, sync_folder
from diffcore_gpu.store.format import MANIFEST_NAME, PAIRS_NAME, read_manifest
from diffcore_gpu.store.workspace import FOLDER_NAME, SETTINGS_NAME, part_name

_SHARD_PATTERN = re.compile(r"counterparts-\d{5}-of-\d{5}\.safetensors")


def is_complete(folder: Path) -> bool:
    """Whether `unfinished/` in this store's folder holds a store that only has to be moved into place."""
    return (folder / FOLDER_NAME / MANIFEST_NAME).exists()


def publish(folder: Path) -> None:
    """Move a complete store from `unfinished/` into `folder`, replacing the store that was there.

    Raises:
        StoreError: if the system refuses a step; calling again continues.
    """
    source = folder / FOLDER_NAME
    manifest, _ = read_manifest(source / MANIFEST_NAME)
    with named_os_errors(folder, "the finished store cannot be moved into place"):
        # The old store.json goes first: it must never stand beside shards of the new store.
        (folder / MANIFEST_NAME).unlink(missing_ok=True)
        sync_folder(folder)
        names = {shard.name for shard in manifest.shards}
        for path in folder.iterdir():
            if _SHARD_PATTERN.fullmatch(path.name) and path.name not in names:
                path.unlink()
        for index, shard in enumerate(manifest.shards):
            _move(source / part_name(index), folder / shard.name)
        _move(source / PAIRS_NAME, folder / PAIRS_NAME)
        sync_folder(folder)
        _clear(source)
        (source / MANIFEST_NAME).replace(folder / MANIFEST_NAME)
        sync_folder(folder)
    remove_leftovers(folder)


def remove_leftovers(folder: Path) -> None:
    """Remove an `unfinished/` without work in it, as a crash leaves it behind a finished store."""
    source = folder / FOLDER_NAME
    if source.exists() and not (source / SETTINGS_NAME).exists():
        with named_os_errors(source, "cannot be removed"):
            shutil.rmtree(source)
            sync_folder(folder)


def _move(source: Path, target: Path) -> None:
    if source.exists():  # else an earlier call moved it
        source.replace(target)


def _clear(source: Path) -> None:
    # settings.json first: without it the rest is no work to resume
    (source / SETTINGS_NAME).unlink(missing_ok=True)
    for path in source.iterdir():
        if path.name != MANIFEST_NAME:
            path.unlink()
