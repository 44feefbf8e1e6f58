"""A look at a store's files before its rows are read where they are mapped, for operators that know only tensors.

A file that was cut short under its map ends the process when what is missing is touched. So whoever hands mapped shards
to an operator says here which store they are of, and each call on the CPU has it look at its files first: in eager
mode, in a compiled graph, and where the dispatcher is passed by.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from weakref import WeakValueDictionary

from torch import Tensor


class Watched(Protocol):
    """A store, whose files may change."""

    def require_unchanged(self, samples: Tensor) -> None:
        """Raise where a file has changed that holds a row of these samples, int64 [B]."""
        ...


_WATCHED: WeakValueDictionary[tuple[int, int], Watched] = WeakValueDictionary()
"""By the addresses of its first shard and of its pairs: parts of a store share its shards."""


def watch(shards: Sequence[Tensor], pair_ptr: Tensor, store: Watched) -> None:
    """From now on, have the store look at its files before these shards are read, as long as it lives."""
    if shards:
        _WATCHED[shards[0].data_ptr(), pair_ptr.data_ptr()] = store


def look(shards: Sequence[Tensor], pair_ptr: Tensor, samples: Tensor) -> None:
    """Have the store of these shards look at its files, if there is one to be watched.

    Args:
        shards: uint8 [n_i, C, H, W] each, on the CPU.
        pair_ptr: int64 [num_samples + 1].
        samples: int64 [B], dataset indices.

    Raises:
        StoreError: a file has changed.
    """
    store = _WATCHED.get((shards[0].data_ptr(), pair_ptr.data_ptr())) if shards else None
    if store is not None:
        store.require_unchanged(samples)
