"""The files of one remote store as its reader asks for them: each from the cache, with the next ones on their way."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

from diffcore_gpu.errors import StoreError
from diffcore_gpu.store.format import MANIFEST_NAME
from diffcore_gpu.store.manifest import MAX_MANIFEST, FileEntry, Manifest, parse_manifest
from diffcore_gpu.store.remote.cache import FileCache
from diffcore_gpu.store.remote.faults import MissingFileError
from diffcore_gpu.store.remote.location import RemoteFolder
from diffcore_gpu.store.remote.transfer import read_small

AHEAD = 2
"""How many shards are fetched in the background while one is read, where the cache has room for many more."""


class RemoteFiles:
    """Finds the files of a remote store on this machine, for `StoreContents`; may be pickled and forked.

    Args:
        folder: where the store lies.
        cache: where its files go.
        shards: as its `store.json` names them.
    """

    def __init__(self, folder: RemoteFolder, cache: FileCache, shards: Sequence[FileEntry]) -> None:
        self.folder, self.cache = folder, cache
        self._shards = shards
        self._places = {shard.checksum: number for number, shard in enumerate(shards)}
        self._begun: tuple[int, set[int]] = (0, set())

    def __call__(self, file: FileEntry, *, hash_again: bool = False) -> Path:
        """See `Locate`."""
        number = self._places.get(file.checksum)
        if number is not None:
            self._fetch_ahead(number)
        try:
            return self.cache.fetch(self.folder, file, hash_again=hash_again)
        except MissingFileError:
            raise StoreError(
                f"{self.folder.shown(file.name)}: there is no such file; another store may have been put there since "
                "this one was opened."
            ) from None

    def _fetch_ahead(self, number: int) -> None:
        """Fetch the shards after this one in threads of their own, each once in a process."""
        bound = self.cache.cache_bytes
        if bound is not None and bound < 2 * (AHEAD + 1) * self._shards[number].size:
            return
        if self._begun[0] != os.getpid():
            self._begun = os.getpid(), set()
        for following in range(number + 1, min(number + 1 + AHEAD, len(self._shards))):
            if following not in self._begun[1]:
                self._begun[1].add(following)
                threading.Thread(target=self._try, args=(self._shards[following],), daemon=True).start()

    def _try(self, shard: FileEntry) -> None:
        try:
            self.cache.fetch(self.folder, shard)
        except StoreError:
            return  # whoever reads that shard fetches it again, and hears why that fails


def fetch_manifest(folder: RemoteFolder) -> tuple[Manifest, bytes]:
    """What the `store.json` of a remote store says, and its bytes.

    Raises:
        MissingFileError: there is none.
        StoreError: it cannot be fetched, or is damaged.
    """
    try:
        raw = read_small(folder, MANIFEST_NAME, MAX_MANIFEST)
    except MissingFileError as error:
        cause = str(error).removeprefix(folder.shown(MANIFEST_NAME)).removeprefix(": ").rstrip(".")
        raise MissingFileError(f"{folder}: there is no counterpart store; of its {MANIFEST_NAME}: {cause}.") from None
    manifest, intact = parse_manifest(folder.shown(MANIFEST_NAME), raw)
    if not intact:
        raise StoreError(f"{folder.shown(MANIFEST_NAME)}: damaged or edited: its content does not have its checksum.")
    return manifest, raw
