"""What a pack is made from: the content of the generated and of the real files, and whether it is still the same.

A resumed pack goes on with the files that come after those that it has. Names and sizes are a cheap first look at
whether they are the same files; then those that were read before are read again and compared with their digests.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffcore_gpu.errors import StoreError
from diffcore_gpu.packing.colour import ImageProblemError
from diffcore_gpu.packing.decode import read_image
from diffcore_gpu.packing.findings import Journal
from diffcore_gpu.packing.imagefolder import ImageFolderScan
from diffcore_gpu.packing.layout import MatchedFile
from diffcore_gpu.packing.options import Content, PackOptions
from diffcore_gpu.store import CounterpartStore
from diffcore_gpu.store.fingerprint import Int64Array
from diffcore_gpu.store.format import FORMAT_VERSION, MANIFEST_NAME
from diffcore_gpu.store.provenance import SAMPLED_FILES, UNKNOWN, FileContents, digest_of, spread
from diffcore_gpu.store.workspace import Workspace
from diffcore_gpu.threads import default_workers, map_in_order

FILES_KEY = "generated_sha256"
"""In the store's metadata: `files_digest`."""
NUMBER_KEY = "generated_files"
"""Likewise: how many files that is of."""
COUNTS_KEY = "counts"
"""In the metadata of a finished store: what the pack counted; before that, the pack's journal."""
JOURNAL_KEY = "journal"
NOT_READ = 0
"""The digest of a file that has no bytes, or none that can be read."""


def files_digest(folder: Path, files: Sequence[MatchedFile]) -> str:
    """SHA-256 (hexadecimal) of the names and sizes of the files, by which a resumed pack knows them again."""
    digest = hashlib.sha256()
    for matched in files:
        try:
            size = (folder / matched.file.name).stat().st_size
        except OSError:
            size = -1  # reported when its turn to be decoded comes
        digest.update(os.fsencode(matched.file.name) + f"\0{size}\n".encode())
    return digest.hexdigest()


def content_of(path: Path) -> tuple[int, int]:
    """Size and digest of a file; `UNKNOWN` and `NOT_READ` where it cannot be read as an image.

    Raises:
        PackError: the disk or the network failed while reading.
    """
    try:
        data = read_image(path)
    except ImageProblemError:
        return UNKNOWN, NOT_READ
    return len(data), digest_of(data)


def real_contents(real: ImageFolderScan, options: PackOptions) -> FileContents:
    """Size and digest of the real files, or of a sample of them that is spread evenly, as the options ask.

    Raises:
        PackError: the disk or the network failed while reading.
    """
    samples = np.arange(len(real))
    if options.content is Content.SAMPLE:
        samples = spread(samples, SAMPLED_FILES)
    contents = FileContents.unknown(len(real))
    workers = options.workers or default_workers()
    contents.set(samples, list(map_in_order(lambda sample: content_of(real.path(sample)), samples.tolist(), workers)))
    return contents


@dataclass(frozen=True)
class _Earlier:
    """What an earlier pack has read.

    Attributes:
        metadata: that it was begun with.
        exact: the digest of each of the first files; None: not known.
        others: those of further rows, whose files follow, maybe among files that were skipped; 0: not known.
    """

    metadata: Mapping[str, Any]
    exact: list[int | None]
    others: list[int]


def require_same_files(
    options: PackOptions,
    settings: Mapping[str, Any],
    files: Sequence[MatchedFile],
    progress: Callable[[int, int], None],
) -> None:
    """Refuse to go on where a generated file that was packed is not what it was; without earlier work nothing is read.

    Args:
        options: of the pack.
        settings: what the store keeps about its making; where anything else in them differs, that is the writer's to
            say, and the files are not looked at.
        files: the generated files as they are now.
        progress: gets (done, total) of the files that are read again.

    Raises:
        StoreError: naming the first file that differs.
        PackError: the disk or the network failed while reading.
    """
    earlier = _earlier(options.out)
    if earlier is None or _of_options(earlier.metadata) != _of_options(settings):
        return
    total = len(earlier.exact) + len(earlier.others)

    def digests() -> Iterable[int]:
        paths = (options.generated / matched.file.name for matched in files)
        contents = map_in_order(content_of, paths, options.workers or default_workers())
        for done, (_, digest) in enumerate(contents, 1):
            progress(min(done, total), total)
            yield digest

    place = _first_difference(digests(), earlier.exact, earlier.others)
    if place is not None and place < len(files):
        raise differs(options, files[place])
    if place is not None or earlier.metadata.get(FILES_KEY) != settings[FILES_KEY]:
        raise StoreError(
            f"{options.generated}: differs from what {options.out} was begun with: it has lost or gained files, or "
            "some have another name or size; put them back, or start again with --overwrite."
        )


def _of_options(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What of the metadata follows from the options alone."""
    return {key: value for key, value in metadata.items() if key not in (FILES_KEY, NUMBER_KEY, COUNTS_KEY)}


def differs(options: PackOptions, matched: MatchedFile) -> StoreError:
    """The error about a file that is not what it was."""
    return StoreError(
        f"{options.generated / matched.file.name}: differs from the file that {options.out} was begun with; put that "
        "back, or start again with --overwrite."
    )


def _earlier(out: Path) -> _Earlier | None:
    work = Workspace(out)
    settings = work.settings()
    if settings is not None:
        rows, _, _ = work.read()
        journal = journal_in(work.progress.updates.get(COUNTS_KEY, {}), len(rows))
        exact, others = _by_place(journal, rows["source"].astype(np.int64))
        return _Earlier(settings.get("metadata", {}), exact, others)
    if not (out / MANIFEST_NAME).exists():
        return None
    store = CounterpartStore.open(out)
    if store.manifest.version < FORMAT_VERSION:
        return None  # the writer refuses it
    return _Earlier(store.metadata, [], store.row_column("source").tolist())


def journal_in(counts: Mapping[str, object], num_rows: int) -> Journal:
    """The journal of a pack from the metadata of its unfinished store; an empty one where there is none."""
    found = counts.get(JOURNAL_KEY)
    if not isinstance(found, dict):
        return Journal(gapless=not counts)  # the final counts take its place before the store is finished
    journal = Journal.decode(found)
    # An interrupt inside `_save` can leave the journal ahead of the rows: then everything is looked at again.
    return journal if journal.done - len(journal.skipped()) <= num_rows else Journal(gapless=False)


def _by_place(journal: Journal, sources: Int64Array) -> tuple[list[int | None], list[int]]:
    """The digests of the files whose places are known, and those of the rows after them."""
    exact: list[int | None] = []
    rows, skipped = iter(sources.tolist()), dict(zip(sorted(journal.skipped()), journal.digests, strict=True))
    for place in range(journal.done):
        exact.append(skipped[place] if place in skipped else next(rows) or None)
    others = list(rows)
    return ([*exact, *(source or None for source in others)], []) if journal.gapless else (exact, others)


def _first_difference(digests: Iterable[int], exact: Sequence[int | None], others: Sequence[int]) -> int | None:
    """The place of the first file that is not what it was; None: there is none.

    Between the files of `others` there may be some that were skipped. So one that does not fit is an innocent one
    unless the next that does fit belongs to a later row.
    """
    row, stranger = 0, None
    coming = set(others)
    place = -1
    if not exact and not others:
        return None
    for place, digest in enumerate(digests):
        if place < len(exact):
            if exact[place] not in (None, digest):
                return place
        elif digest == others[row] or others[row] == 0:
            row, stranger = row + 1, None
        elif digest in coming:
            return place if stranger is None else stranger
        elif stranger is None:
            stranger = place
        if place + 1 >= len(exact) and row == len(others):
            return None
    return place + 1 if stranger is None else stranger
