"""Putting a store where others can open it: shards and tables first, `store.json` last."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffcore_gpu.documents import read_regular, why
from diffcore_gpu.errors import StoreError
from diffcore_gpu.store.format import MANIFEST_NAME
from diffcore_gpu.store.manifest import MAX_MANIFEST, FileEntry, Manifest, parse_manifest
from diffcore_gpu.store.reader import CounterpartStore
from diffcore_gpu.store.remote.card import CARD_NAME, PICTURE_NAME, card, picture_of
from diffcore_gpu.store.remote.faults import MissingFileError
from diffcore_gpu.store.remote.files import fetch_manifest
from diffcore_gpu.store.remote.location import RemoteFolder
from diffcore_gpu.store.remote.targets import Target, target_of

Progress = Callable[[int, int], None]
"""Told how many bytes are done, and of how many."""


@dataclass(frozen=True)
class PushReport:
    """What a push did.

    Attributes:
        url: where the store is now, without anything secret.
        sent: names of the files that were sent.
        present: names of those that were there already.
        sent_bytes: of the former, together.
        superseded: names of files of the store that was there before, which nothing removes: whoever opened that store
            may still read them.
    """

    url: str
    sent: tuple[str, ...]
    present: tuple[str, ...]
    sent_bytes: int
    superseded: tuple[str, ...]


def push(
    store: str | Path,
    url: str,
    *,
    overwrite: bool = False,
    with_card: bool = True,
    storage_options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> PushReport:
    """Put a store behind a URL, from where `CounterpartStore.open` opens it.

    Every file is hashed before it is sent. Files that are there already are not sent again, so a push that broke off is
    gone on with by the same call. `store.json` comes last: until then, what was there before is opened.

    Args:
        store: the store's folder.
        url: where it goes: `s3://bucket/store`, `gs://…`, `hf://datasets/OWNER/NAME`, or anything else that fsspec
            writes. A dataset that is missing on the Hub is made, private.
        overwrite: replace another store that is there.
        with_card: also write a card, `README.md`, and a picture of counterparts beside it.
        storage_options: see `CounterpartStore.open`.
        progress: hears of the progress.

    Returns:
        What was sent.

    Raises:
        StoreError: the store is damaged; another one is there; or the server refuses or stays out of reach.
    """
    opened = CounterpartStore.open(store)
    raw = _manifest_bytes(opened)
    folder = RemoteFolder(url, storage_options)
    target = target_of(folder)
    before = _before(folder, opened, overwrite)
    target.prepare()
    files = opened.manifest.files
    sent, present = _send(target, opened, files, progress or (lambda done, total: None))
    if sent or before is None or before.checksum != opened.checksum:
        target.finish({**(_card_files(opened, str(folder)) if with_card else {}), MANIFEST_NAME: raw})
    kept = {file.name for file in files}
    return PushReport(
        url=str(folder),
        sent=tuple(file.name for file in sent),
        present=tuple(file.name for file in present),
        sent_bytes=sum(file.size for file in sent),
        superseded=() if before is None else tuple(file.name for file in before.files if file.name not in kept),
    )


def _manifest_bytes(store: CounterpartStore) -> bytes:
    if not isinstance(store.path, Path):
        return store.manifest.encode()
    path = store.path / MANIFEST_NAME
    try:
        raw = read_regular(path, MAX_MANIFEST, store.path)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read: {why(error)}.") from error
    if parse_manifest(path, raw)[0].checksum != store.checksum:
        raise StoreError(f"{path}: another store has been put there meanwhile; push again.")
    return bytes(raw)


def _before(folder: RemoteFolder, store: CounterpartStore, overwrite: bool) -> Manifest | None:
    """The store that is there now, which may be this one; refused unless it may be replaced."""
    try:
        before, _ = fetch_manifest(folder)
    except MissingFileError:
        return None
    if before.checksum == store.checksum:
        return before
    if store.manifest.version == 1:
        raise StoreError(
            f"{folder}: holds another store, and one of version 1 cannot be put in its place without breaking it in "
            "between; convert yours first."
        )
    if not overwrite:
        raise StoreError(f"{folder}: holds another store; give overwrite (--overwrite) to replace it.")
    return before


def _send(
    target: Target, store: CounterpartStore, files: Sequence[FileEntry], progress: Progress
) -> tuple[list[FileEntry], list[FileEntry]]:
    total = sum(file.size for file in files)
    found = target.present(
        [(file, store.path_of(file)) for file in files], by_name=store.manifest.version > 1
    )  # names follow from the content
    present = [file for file in files if file.name in found]
    missing = [file for file in files if file.name not in found]
    done = sum(file.size for file in present)
    progress(done, total)
    for batch in _batches(missing, target.at_once):
        target.send([(file.name, store.checked_path_of(file)) for file in batch])
        done += sum(file.size for file in batch)
        progress(done, total)
    return missing, present


def _batches(files: Sequence[FileEntry], size: int) -> Iterator[Sequence[FileEntry]]:
    for first in range(0, len(files), size):
        yield files[first : first + size]


def _card_files(store: CounterpartStore, url: str) -> dict[str, bytes]:
    pictured = store.num_rows > 0 and store.image_shape[0] in (1, 3)
    text = card(store, url, picture=pictured)
    return {**({PICTURE_NAME: picture_of(store)} if pictured else {}), CARD_NAME: text.encode()}
