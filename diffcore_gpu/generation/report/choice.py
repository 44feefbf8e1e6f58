"""A bounded choice from a stream, spread over the classes, that does not depend on the order of the stream."""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class StratifiedChoice(Generic[T]):
    """Keeps at most `limit` of the items offered: the first of every class before the second of any, and so on.

    Which item of a class comes first is decided by a hash of its key, so every item has the same chance. What is kept
    is a function of the set of items offered: their order does not matter, and an item offered twice counts once. So a
    run that was interrupted and offers some items again ends with the same choice as one that was not.

    Args:
        limit: how many are kept at most; 0: none.
    """

    def __init__(self, limit: int) -> None:
        if limit < 0:
            raise ValueError(f"limit is {limit}; it must be 0 or more.")
        self.limit = limit
        self._classes: dict[int, list[tuple[bytes, str]]] = {}  # of each class, what is kept, by (hash, key)
        self._order: list[tuple[int, bytes, int, str]] = []  # all that is kept, by (rank in its class, hash, …)
        self._items: dict[tuple[int, str], T] = {}

    def wants(self, label: int, key: str) -> bool:
        """Whether `add` would keep that item as a new one. Keeps nothing."""
        digest = _digest(label, key)
        members = self._classes.get(label, [])
        rank = bisect.bisect_left(members, (digest, key))
        if (label, key) in self._items:
            return False
        return len(self._items) < self.limit or (bool(self._order) and (rank, digest, label, key) < self._order[-1])

    def add(self, label: int, key: str, item: T) -> T | None:
        """Offer an item.

        Args:
            label: its class.
            key: distinguishes it from every other item of its class.
            item: what to keep.

        Returns:
            The item that was pushed out by it, or `item` itself where it was not kept or is there already; None: it was
            kept and nothing was pushed out.
        """
        if not self.wants(label, key):
            return item
        members = self._classes.setdefault(label, [])
        self._forget(label)
        bisect.insort(members, (_digest(label, key), key))
        self._items[label, key] = item
        self._rank(label)
        if len(self._items) <= self.limit:
            return None
        _, _, loser_label, loser_key = self._order.pop()
        self._classes[loser_label].pop()  # the last in the order is the last of its class
        return self._items.pop((loser_label, loser_key))

    def _forget(self, label: int) -> None:
        for rank, (digest, key) in enumerate(self._classes[label]):
            del self._order[bisect.bisect_left(self._order, (rank, digest, label, key))]

    def _rank(self, label: int) -> None:
        for rank, (digest, key) in enumerate(self._classes[label]):
            bisect.insort(self._order, (rank, digest, label, key))

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        """The items kept, by class, then by key."""
        return (self._items[place] for place in sorted(self._items))


def _digest(label: int, key: str) -> bytes:
    return hashlib.blake2b(f"{label}/{key}".encode(), digest_size=8).digest()
