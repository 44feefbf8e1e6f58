"""Datasets that say which sample they return."""

from __future__ import annotations

import operator
from collections.abc import Sequence, Sized
from typing import Any

from torch.utils.data import Dataset, IterableDataset


class IndexedDataset(Dataset[Any]):
    """A map-style dataset whose items end with their own index: `(image, label)` becomes `(image, label, index)`.

    The index is the position in the wrapped dataset, in [0, len). To train on a part of a dataset for which a store was
    made, wrap the whole and take the part of that, `Subset(IndexedDataset(dataset), part)`: the indices are then those
    of the whole, which the store knows. `IndexedDataset(Subset(dataset, part))` counts from 0 in the part.

    Attributes that this class does not have (`targets`, `classes`, `samples`, `root`, …) are those of the wrapped
    dataset. That is so for reading alone: to change its `transform`, set that of `dataset`.

    Args:
        dataset: anything with `__getitem__` by integer and `__len__`. An item that is not a tuple or list becomes
            `(item, index)`.

    Raises:
        TypeError: if the dataset is iterable-style: its samples have no index.
    """

    def __init__(self, dataset: Any) -> None:
        if isinstance(dataset, IterableDataset) or not (hasattr(dataset, "__getitem__") and isinstance(dataset, Sized)):
            raise TypeError(
                f"IndexedDataset needs a map-style dataset with __getitem__ and __len__; the samples of "
                f"{type(dataset).__name__} have no index"
            )
        self.dataset: Any = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        position = self._position(index)
        return _with_index(self.dataset[position], position)

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Any, ...]]:
        """Several items at once, which a `DataLoader` asks for: in one call, if the wrapped dataset can do that."""
        positions = [self._position(index) for index in indices]
        fetch = getattr(self.dataset, "__getitems__", None)
        items = [self.dataset[position] for position in positions] if fetch is None else fetch(positions)
        return [_with_index(item, position) for item, position in zip(items, positions, strict=True)]

    def __getattr__(self, name: str) -> Any:
        # Reached only where normal lookup fails. While unpickling, `dataset` itself is not there yet; and special
        # methods must not be borrowed, or pickle and copy would act on the wrapped dataset.
        if name == "dataset" or (name.startswith("__") and name.endswith("__")):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.dataset, name)

    def __repr__(self) -> str:
        return f"IndexedDataset({self.dataset!r})"

    def _position(self, index: int) -> int:
        position = operator.index(index)
        length = len(self.dataset)
        if not -length <= position < length:
            raise IndexError(f"index {position} is outside a dataset of {length} samples")
        return position % length


def _with_index(item: Any, index: int) -> tuple[Any, ...]:
    return (*item, index) if isinstance(item, tuple | list) else (item, index)
