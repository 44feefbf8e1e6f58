"""Datasets that say which sample they return."""

from __future__ import annotations

import operator
from collections.abc import Sequence, Sized
from typing import Any

from torch.utils.data import Dataset, IterableDataset

from diffcore_gpu.kernels.spec import SAMPLE_MASK


class IndexedDataset(Dataset[Any]):
    """A map-style dataset whose items end with their own index: `(image, label)` becomes `(image, label, index)`.

    The index is the position in the wrapped dataset, in [0, len). To train on a part of a dataset for which a store was
    made, name the part, `IndexedDataset(dataset, part)`: the indices are then those of the whole, which the store
    knows, as they are of `Subset(IndexedDataset(dataset), part)`. `IndexedDataset(Subset(dataset, part))` counts from 0
    in the part.

    Where an `OccurrenceSampler` asks for an item, the index also says how often it was drawn before in the epoch.

    Attributes that this class does not have (`targets`, `classes`, `samples`, `root`, …) are those of the wrapped
    dataset. That is so for reading alone: to change its `transform`, set that of `dataset`.

    Args:
        dataset: anything with `__getitem__` by integer and `__len__`. An item that is not a tuple or list becomes
            `(item, index)`.
        part: positions in the dataset, in the order in which they are counted here; None: all of it.

    Raises:
        TypeError: if the dataset is iterable-style: its samples have no index.
        IndexError: a position of the part is outside the dataset.
    """

    def __init__(self, dataset: Any, part: Sequence[int] | None = None) -> None:
        if isinstance(dataset, IterableDataset) or not (hasattr(dataset, "__getitem__") and isinstance(dataset, Sized)):
            raise TypeError(
                f"IndexedDataset needs a map-style dataset with __getitem__ and __len__; the samples of "
                f"{type(dataset).__name__} have no index."
            )
        self.dataset: Any = dataset
        self._part = None if part is None else [int(position) for position in part]
        for position in self._part or ():
            if not 0 <= position < len(dataset):
                raise IndexError(f"part names position {position}, outside a dataset of {len(dataset)} samples.")

    def __len__(self) -> int:
        return len(self.dataset) if self._part is None else len(self._part)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        position, occurrence = self._place(index)
        return _with_index(self.dataset[position], position | occurrence)

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Any, ...]]:
        """Several items at once, which a `DataLoader` asks for: in one call, if the wrapped dataset can do that."""
        places = [self._place(index) for index in indices]
        positions = [position for position, _ in places]
        fetch = getattr(self.dataset, "__getitems__", None)
        items = [self.dataset[position] for position in positions] if fetch is None else fetch(positions)
        return [_with_index(item, sum(place)) for item, place in zip(items, places, strict=True)]

    def __getattr__(self, name: str) -> Any:
        # Reached only where normal lookup fails. While unpickling, `dataset` itself is not there yet; and special
        # methods must not be borrowed, or pickle and copy would act on the wrapped dataset.
        if name in ("dataset", "_part") or (name.startswith("__") and name.endswith("__")):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}.")
        return getattr(self.dataset, name)

    def __repr__(self) -> str:
        return f"IndexedDataset({self.dataset!r})"

    def _place(self, index: int) -> tuple[int, int]:
        """The position in the wrapped dataset, and the bits of the index above those of samples."""
        number = operator.index(index)
        within = number if number < 0 else number & SAMPLE_MASK
        length = len(self)
        if not -length <= within < length:
            raise IndexError(f"index {within} is outside a dataset of {length} samples.")
        position = within % length
        return position if self._part is None else self._part[position], number - within


def _with_index(item: Any, index: int) -> tuple[Any, ...]:
    return (*item, index) if isinstance(item, tuple | list) else (item, index)
