"""The shards of a store made of other shards: linked or copied whole, or written again with some of their rows."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffcore_gpu.documents import open_regular
from diffcore_gpu.errors import StoreError
from diffcore_gpu.store.durable import file_checksum, named_os_errors, open_to_write, read_at, sync_folder, write_at
from diffcore_gpu.store.fingerprint import Int64Array
from diffcore_gpu.store.format import RAW, shard_name
from diffcore_gpu.store.manifest import FileEntry
from diffcore_gpu.store.provenance import digest_of
from diffcore_gpu.store.reader import CounterpartStore
from diffcore_gpu.store.shard_reader import shard_entries
from diffcore_gpu.store.shard_stream import part_name, shard_form
from diffcore_gpu.store.tensorfile import DATA_START, build_header, file_bytes


@dataclass(frozen=True)
class Piece:
    """A shard of which rows go into another store.

    Attributes:
        store: that it belongs to, of version 2.
        number: of the shard in it.
        places: of the rows in the shard, ascending, int64 [n], n ≥ 1.
    """

    store: CounterpartStore
    number: int
    places: Int64Array

    @property
    def shard(self) -> FileEntry:
        """What `store.json` says of the shard."""
        return self.store.manifest.shards[self.number]

    @property
    def is_whole(self) -> bool:
        """Whether every row goes along."""
        return len(self.places) == self.shard.rows


def pieces_of(store: CounterpartStore, kept: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> list[Piece]:
    """The shards of a store with the rows that are kept, bool [num_rows]; a shard without any is left out."""
    ends = store.manifest.row_ends
    parts = np.split(kept, ends[:-1]) if len(ends) else []
    return [
        Piece(store, number, np.flatnonzero(part).astype(np.int64)) for number, part in enumerate(parts) if part.any()
    ]


@dataclass
class Assembled:
    """The shards of a store, and how they came about.

    Attributes:
        shards: in row order.
        kept: that lay there under the same name.
        linked, copied, rewritten: how many were.
    """

    shards: list[FileEntry]
    kept: int = 0
    linked: int = 0
    copied: int = 0
    rewritten: int = 0


def assemble(pieces: Sequence[Piece], target: Path, folder: Path, *, link: bool = True) -> Assembled:
    """Lay the shards of a new store into a folder, named as `publish` expects them.

    Args:
        pieces: in the order of the new store's shards.
        target: the new store's folder; a whole shard that lies there under its new name is left alone.
        folder: where the files go, on the file system of `target`.
        link: whether whole shards may be hard links to the files of their stores; where the system cannot link, and
            without this, they are copied.

    Raises:
        StoreError: a file cannot be read or written, or is not what its store says.
    """
    result = Assembled([])
    for index, piece in enumerate(pieces):
        path = folder / part_name(index)
        if not piece.is_whole:
            shard = _rewrite(piece, path)
            result.rewritten += 1
        else:
            shard = piece.shard
            source = piece.store.path_of(shard)
            if source == target / shard_name(index, shard.checksum):
                result.kept += 1
            elif link and _link(source, path):
                result.linked += 1
            else:
                _copy(source, path, shard)
                result.copied += 1
        result.shards.append(dataclasses.replace(shard, name=shard_name(index, shard.checksum)))
    with named_os_errors(folder):
        sync_folder(folder)
    return result


def _link(source: Path, path: Path) -> bool:
    """Make a hard link; False where the system cannot: another file system, or one without links."""
    try:
        os.link(source.resolve(), path)
    except OSError:
        return False
    return True


def _copy(source: Path, path: Path, shard: FileEntry) -> None:
    with named_os_errors(path):
        shutil.copyfile(source, path)
        with _opened(open_to_write(path)) as fd:
            os.fsync(fd)
    if file_checksum(path) != shard.checksum:
        raise StoreError(f"{source}: damaged: its SHA-256 is not that in store.json.")


def _rewrite(piece: Piece, path: Path) -> FileEntry:
    """Write some rows of a shard to a shard of their own, their bytes as they are, each compared with its digest."""
    shard, source = piece.shard, piece.store.path_of(piece.shard)
    entries = shard_entries(source, shard, piece.store.image_shape, piece.store.manifest.version)
    first = int(piece.store.manifest.row_ends[piece.number]) - shard.rows
    digests = piece.store.row_column("digest", first + piece.places).tolist()
    with named_os_errors(source, "cannot be read"), _opened(open_regular(source)) as read_fd:
        if shard.codec == RAW:
            begin, size = entries["images"].begin, int(np.prod(piece.store.image_shape))
            starts, sizes = begin + piece.places * size, np.full(len(piece.places), size)
        else:
            offset = entries["offset"]
            ends = np.frombuffer(read_at(read_fd, offset.end - offset.begin, offset.begin), "<i8")
            starts = entries["data"].begin + ends[piece.places]
            sizes = ends[piece.places + 1] - ends[piece.places]
        bounds = np.concatenate([np.zeros(1, "<i8"), np.cumsum(sizes, dtype="<i8")])
        tensors, behind = shard_form(shard.codec, piece.store.image_shape, bounds.tolist())
        with named_os_errors(path), _opened(open_to_write(path, os.O_TRUNC)) as write_fd:
            for place, start, size, to, digest in zip(
                piece.places.tolist(), starts.tolist(), sizes.tolist(), bounds.tolist(), digests, strict=False
            ):
                data = read_at(read_fd, size, start)
                if len(data) != size or digest_of(data) != digest:
                    raise StoreError(f"{source}: damaged: row {first + place} is not the image that was written.")
                write_at(write_fd, data, DATA_START + to)
            write_at(write_fd, behind, DATA_START + int(bounds[-1]))
            write_at(write_fd, build_header(tensors), 0)
            os.fsync(write_fd)
    return FileEntry("", file_bytes(tensors), file_checksum(path), len(sizes), shard.codec)


@contextlib.contextmanager
def _opened(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)
