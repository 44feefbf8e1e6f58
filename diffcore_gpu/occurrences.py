"""Samples that are drawn more than once in an epoch get another plan each time: `OccurrenceSampler`."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Sized
from typing import Any

from torch.utils.data import Sampler

from diffcore_gpu.kernels.spec import SAMPLE_BITS

MAX_OCCURRENCES = 1 << (63 - SAMPLE_BITS)
"""How often a sample can be told apart in one epoch."""


class OccurrenceSampler(Sampler[Any]):
    """Makes the indices of any sampler say how often each sample was drawn before in the same epoch.

    What happens to a sample is a function of seed, round and index. After `DiffCoreMix.set_epoch` the round is the
    epoch, so a sample that a sampler draws twice in it (at random with replacement, by weights, as repeated
    augmentation, or to fill up the ranks of a distributed run) would be mixed alike both times. This wrapper adds its
    occurrence, the number of earlier draws in this epoch, to the index in the bits above `SAMPLE_BITS`;
    `IndexedDataset` hands it on, and it becomes a part of the counter that plans are drawn from. First draws stay as
    they are, bit for bit.

    >>> weighted = WeightedRandomSampler(weights, len(dataset))
    >>> loader = DataLoader(dc.IndexedDataset(dataset), batch_size=64, sampler=dc.OccurrenceSampler(weighted))

    Ranks count together: a sampler with the attributes `rank` and `num_replicas` (torch's `DistributedSampler`, timm's
    `RepeatAugSampler`) is walked for all ranks in step, and this rank's indices are handed out. So a sample that two
    ranks draw has two occurrences, and which one a draw is depends on its place in the epoch alone. For any number of
    ranks that split the same order, that is the same plan. Each rank must then see the same epoch, as with those
    samplers after `set_epoch`.

    It can be iterated any number of times; every iteration is an epoch, counted from 0. A run that is resumed in the
    middle of an epoch by skipping what was drawn (as `StatefulDataLoader` and accelerate do) goes on exactly.

    Args:
        sampler: yields indices in [0, 2⁴⁰), or batches of them as lists or tuples.

    Raises:
        ValueError: while iterating, if an index is negative or too large, or a sample is drawn more than 2²³ times.
    """

    def __init__(self, sampler: Iterable[Any]) -> None:
        self.sampler: Any = sampler

    def __len__(self) -> int:
        if not isinstance(self.sampler, Sized):
            raise TypeError(f"{type(self.sampler).__name__} has no length.")
        return len(self.sampler)

    def set_epoch(self, epoch: int) -> None:
        """Call that of the wrapped sampler, if it has one."""
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[Any]:
        drawn: Counter[int] = Counter()
        rank, replicas = getattr(self.sampler, "rank", None), getattr(self.sampler, "num_replicas", None)
        if not isinstance(rank, int) or not isinstance(replicas, int) or replicas == 1:
            for entry in self.sampler:
                yield _counted(entry, drawn)
            return
        for entries in zip(*(_of_rank(self.sampler, other) for other in range(replicas)), strict=True):
            yield [_counted(entry, drawn) for entry in entries][rank]


def _of_rank(sampler: Any, rank: int) -> Iterator[Any]:
    """What a sampler would yield on another rank."""
    other = copy.copy(sampler)
    other.rank = rank
    return iter(other)


def _counted(entry: Any, drawn: Counter[int]) -> Any:
    """An index, or a batch of them, with their occurrences."""
    if isinstance(entry, list | tuple):
        return type(entry)(_counted(index, drawn) for index in entry)
    index = int(entry)
    if not 0 <= index < 1 << SAMPLE_BITS:
        raise ValueError(f"the sampler drew index {index}, but samples are numbered from 0 to 2^{SAMPLE_BITS} - 1.")
    occurrence = drawn[index]
    if occurrence == MAX_OCCURRENCES:
        raise ValueError(f"the sampler drew sample {index} more than {MAX_OCCURRENCES} times in one epoch.")
    drawn[index] = occurrence + 1
    return index | occurrence << SAMPLE_BITS
