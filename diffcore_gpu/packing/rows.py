"""Decode the generated files and add them to a store as rows, in order, from where an interrupted pack stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from diffcore_gpu.errors import StoreError
from diffcore_gpu.packing.colour import Conversion, ImageProblemError
from diffcore_gpu.packing.decode import decode_bytes, pillow_ready, read_image
from diffcore_gpu.packing.findings import Effect, Journal
from diffcore_gpu.packing.layout import MatchedFile
from diffcore_gpu.packing.options import PackOptions
from diffcore_gpu.packing.origin import COUNTS_KEY, JOURNAL_KEY, NOT_READ, differs, journal_in
from diffcore_gpu.store import CounterpartWriter
from diffcore_gpu.store.codecs import Codec, EncodedImage, codec_named
from diffcore_gpu.store.format import RAW
from diffcore_gpu.store.provenance import digest_of
from diffcore_gpu.threads import default_workers, map_in_order

NO_SEED = -1
"""The seed of a row whose seed is not known."""
_SAVE_SECONDS = 10.0  # what is looked at again, at most, after an interruption
_MOST_DIGESTS = 10_000  # of skipped files, up to which the journal is kept anew after each of them


class _Row(NamedTuple):
    """An image that can become a row, and what `decode` said of its file."""

    image: EncodedImage | npt.NDArray[np.uint8]
    conversions: tuple[Conversion, ...]
    enlarged: bool


class _Looked(NamedTuple):
    """A file, read once: the digest of its bytes, and what they show or why they show nothing."""

    digest: int
    result: _Row | ImageProblemError


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
        StoreError: the store cannot be written, or a file is not the one that the writer has a row of.
    """
    journal = journal_in(writer.metadata.get(COUNTS_KEY, {}), writer.added[0]) if writer else Journal()
    # The writer may have kept rows from after its journal: their files are looked at again, but not added.
    first_row = writer.num_rows - writer.added[0] if writer else 0  # rows before it are those of a finished store
    present = writer.rows().source[first_row + journal.done - len(journal.digests) :].tolist() if writer else []
    there = 0

    codec = codec_named(options.codec)
    encode = None if writer is None or codec.name == RAW else codec
    saved, unsaved = time.monotonic(), not journal.gapless
    first = journal.done
    with pillow_ready():
        looks = map_in_order(
            lambda matched: _look(matched, options, encode),
            islice(files, first, None),
            options.workers or default_workers(),
        )
        for matched, (digest, result) in zip(islice(files, first, None), looks, strict=True):
            if isinstance(result, ImageProblemError):
                if there < len(present) and journal.gapless and writer and not writer.finished:
                    raise differs(options, matched)
                journal.note(Effect.SKIPPED, result.kind, result.detail)
                journal.digests.append(digest)
                unsaved = True
            else:
                if there < len(present):
                    if present[there] not in (0, digest):
                        raise differs(options, matched)
                    there += 1
                elif writer:
                    few = len(journal.digests) <= _MOST_DIGESTS
                    if unsaved and (few or journal.gapless):
                        journal.gapless, unsaved = few, False
                        _note(writer, journal)
                    writer.add_row(result.image, label=matched.label, seed=NO_SEED, source=digest)
                for conversion in result.conversions:
                    journal.note(Effect.CONVERTED, conversion.kind, conversion.detail)
                journal.enlarged += result.enlarged
            journal.done += 1
            progress(journal.done, len(files))
            if writer and not writer.finished and time.monotonic() - saved > _SAVE_SECONDS:
                _save(writer, journal)
                saved = time.monotonic()
    if there < len(present):
        raise StoreError(
            f"{options.out}: has {len(present) - there} rows more than there are images in {options.generated}; start "
            "again with --overwrite."
        )
    if writer and not writer.finished:
        _save(writer, journal)
    return journal


def _look(matched: MatchedFile, options: PackOptions, encode: Codec | None) -> _Looked:
    digest = NOT_READ
    try:
        data = read_image(options.generated / matched.file.name)
        digest = digest_of(data)
        decoded = decode_bytes(data, options.height, options.width, options.fit)
    except ImageProblemError as problem:
        return _Looked(digest, problem)
    # Encoded here, in a thread of many, and not by the writer.
    image = decoded.pixels if encode is None else encode.encoded(decoded.pixels)
    return _Looked(digest, _Row(image, decoded.conversions, decoded.enlarged))


def _note(writer: CounterpartWriter, journal: Journal) -> None:
    writer.update_metadata({COUNTS_KEY: {JOURNAL_KEY: journal.encode()}})


def _save(writer: CounterpartWriter, journal: Journal) -> None:
    _note(writer, journal)
    writer.flush()
