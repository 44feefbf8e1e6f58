"""Decode the generated files and add them to a store as rows, in order, from where an interrupted pack stopped."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from diffcore_gpu.packing.colour import ImageProblemError
from diffcore_gpu.packing.decode import Decoded, decode, pillow_ready
from diffcore_gpu.packing.findings import Effect, Journal
from diffcore_gpu.packing.layout import MatchedFile
from diffcore_gpu.packing.options import PackOptions
from diffcore_gpu.store import CounterpartWriter
from diffcore_gpu.threads import default_workers, map_in_order

NO_SEED = -1
"""The seed of a row whose seed is not known."""
_SAVE_SECONDS = 10.0  # what is looked at again, at most, after an interruption

_JOURNAL = "journal"
_KEY = "counts"  # the journal stands where the final counts will: the finished store does not keep it


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


def add_rows(
    writer: CounterpartWriter | None,
    options: PackOptions,
    files: Sequence[MatchedFile],
    progress: Callable[[int, int], None],
) -> Journal:
    """Add a row for every usable file that the writer does not have yet, and return what was noticed.

    Without a writer the files are only looked at.

    Raises:
        PackError: reading failed, though the file may be sound.
        StoreError: the store cannot be written.
    """
    journal = _last_journal(writer) if writer else Journal()
    # The writer may have kept rows from after its journal: their files are looked at again, but not added.
    present = writer.num_rows - journal.done + len(journal.skipped()) if writer else 0

    def look(matched: MatchedFile) -> Decoded | ImageProblemError:
        try:
            return decode(options.generated / matched.file.name, options.height, options.width, options.fit)
        except ImageProblemError as problem:
            return problem

    saved = time.monotonic()
    first = journal.done
    with pillow_ready():
        results = map_in_order(look, islice(files, first, None), options.workers or default_workers())
        for matched, result in zip(islice(files, first, None), results, strict=True):
            if isinstance(result, ImageProblemError):
                journal.note(Effect.SKIPPED, result.kind, result.detail)
            else:
                if present > 0:
                    present -= 1
                elif writer:
                    writer.add_row(result.pixels, label=matched.label, seed=NO_SEED)
                for conversion in result.conversions:
                    journal.note(Effect.CONVERTED, conversion.kind, conversion.detail)
                journal.enlarged += result.enlarged
            journal.done += 1
            progress(journal.done, len(files))
            if writer and not writer.finished and time.monotonic() - saved > _SAVE_SECONDS:
                _save(writer, journal)
                saved = time.monotonic()
    if writer and not writer.finished:
        _save(writer, journal)
    return journal


def _save(writer: CounterpartWriter, journal: Journal) -> None:
    writer.update_metadata({_KEY: {_JOURNAL: journal.encode()}})
    writer.flush()


def _last_journal(writer: CounterpartWriter) -> Journal:
    counts = writer.metadata.get(_KEY, {})
    if _JOURNAL not in counts:
        return Journal()
    journal = Journal.decode(counts[_JOURNAL])
    # An interrupt inside `_save` can leave the journal ahead of the rows: then everything is looked at again.
    return journal if journal.done - len(journal.skipped()) <= writer.num_rows else Journal()
