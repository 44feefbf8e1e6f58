"""A pack that adds to a store which an earlier pack has made: which files are new, and which samples have room."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from diffcore_gpu.errors import PackError
from diffcore_gpu.packing.layout import MatchedFile
from diffcore_gpu.packing.options import PackOptions
from diffcore_gpu.packing.origin import NOT_READ, content_of
from diffcore_gpu.store import CounterpartStore
from diffcore_gpu.threads import default_workers, map_in_order

Int64s = npt.NDArray[np.int64]
Pairs = tuple[Int64s, Int64s, npt.NDArray[np.float32] | None]
"""Samples, rows, and similarities where they were measured."""

_SAME = ("made_by", "resize", "resampling", "filter")


def require_alike(options: PackOptions, store: CounterpartStore, how: Mapping[str, Any]) -> None:
    """Refuse to add to a store whose rows were made in another way.

    Args:
        options: of the pack.
        store: that is added to.
        how: what must be the same for all rows, as the store's metadata have it.

    Raises:
        PackError: names what differs, or the rows of the store do not know their files.
    """
    for key in _SAME:
        was, is_ = store.metadata.get(key), how.get(key)
        if was != is_:
            raise PackError(
                f"{options.out} was made with {key} {was!r}, now it is {is_!r}; pack another store, and merge both."
            )
    if bool((store.row_column("source") == 0).any()):
        raise PackError(
            f"{options.out} does not know from which files its rows were made, so none would be known again; pack "
            "another store, and merge both."
        )


def new_files(
    options: PackOptions,
    store: CounterpartStore,
    files: Sequence[MatchedFile],
    progress: Callable[[int, int], None],
) -> list[MatchedFile]:
    """The files of which the store has no row, by what they hold and their class, whatever their names.

    A file that cannot be read is new: it is reported when its turn to be decoded comes.

    Raises:
        PackError: the disk or the network failed while reading.
    """
    there = Counter(zip(store.row_label().tolist(), store.row_column("source").tolist(), strict=True))
    workers = options.workers or default_workers()
    contents = map_in_order(content_of, (options.generated / matched.file.name for matched in files), workers)
    new = []
    for done, (matched, (_, digest)) in enumerate(zip(files, contents, strict=True), 1):
        known = (matched.label, digest)
        if digest != NOT_READ and there[known] > 0:
            there[known] -= 1
        else:
            new.append(matched)
        progress(done, len(files))
    return new


def pairs_with_room(store: CounterpartStore, limit: int | None, pair: Callable[[int | None], Pairs]) -> Pairs:
    """Pairs of new rows with the samples that have fewer than they may have.

    Args:
        store: that is added to.
        limit: pairs for each sample, with those that it has; None: all that are possible.
        pair: gives the pairs of every sample for a limit of new ones.
    """
    if limit is None:
        return pair(None)
    room = limit - np.diff(store.pair_ptr.numpy())
    parts: list[Pairs] = []
    for size in np.unique(room[room > 0]).tolist():
        samples, rows, values = pair(size)
        chosen = room[samples] == size
        parts.append((samples[chosen], rows[chosen], None if values is None else values[chosen]))
    none = np.empty(0, np.int64)
    samples, rows = (np.concatenate([none, *(part[number] for part in parts)]) for number in (0, 1))
    measured = [part[2] for part in parts if part[2] is not None]
    order = np.lexsort((rows, samples))
    return samples[order], rows[order], np.concatenate(measured)[order] if measured else None
