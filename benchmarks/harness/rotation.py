"""Actions that find no cache warm: every call takes the next of several sets of buffers.

Images, outputs and rows that one call touched come up again only after as many bytes as twice the last-level cache
holds have passed through it. A mix or a copy over one buffer again and again measures the cache, and looks faster than
any training loop ever sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from diffcore_gpu.benchmarks.harness.random_data import ROWS

CACHES = 2
"""Times the cache that the images and outputs of all sets fill."""
ON_THE_CPU = 3
"""Sets on the CPU, where this is rehearsed rather than measured."""
MOST = 256
"""Sets at most."""


def cache_bytes(device: torch.device) -> int:
    """Bytes of a GPU's last-level cache; 64 MiB where torch does not tell."""
    told = getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0)
    return int(told) or 64 << 20


def sets_for(image_bytes: int, device: torch.device) -> int:
    """How many sets are needed: at least two.

    Args:
        image_bytes: of one batch of images; an output is as large.
        device: that is measured.
    """
    if device.type != "cuda":
        return ON_THE_CPU
    return min(max(-(-CACHES * cache_bytes(device) // (2 * image_bytes)), 2), MOST)


def index_sets(batch: int, sets: int, rows: int = ROWS) -> list[Tensor]:
    """int64 [batch] dataset indices of each set, in the host's memory, each sample once in a set.

    A sample comes up again only when too few others are left for a whole set.

    Args:
        batch: `rows` at most.
        sets: how many.
        rows: samples that there are.
    """
    generator = torch.Generator().manual_seed(batch)
    found: list[Tensor] = []
    while len(found) < sets:
        found += torch.randperm(rows, generator=generator).split(batch)[: rows // batch]
    return [index.clone() for index in found[:sets]]  # each in memory of its own, aligned as an allocation is


class Rotation:
    """An action over the next set in every call.

    What it returned is kept until its set comes up again, so that no output is written to memory that is still in the
    cache. After `sets` + 1 calls nothing is allocated anew.

    Args:
        action: takes the number of a set.
        sets: how many there are.
    """

    def __init__(self, action: Callable[[int], object], sets: int) -> None:
        self._action = action
        self._kept: list[object] = [None] * sets
        self._calls = 0

    def __call__(self) -> None:
        """Act on the next set."""
        which = self._calls % len(self._kept)
        self._calls += 1
        self._kept[which] = self._action(which)


def of_the_calls(per_set: Sequence[Any], warmup: int, repeats: int) -> list[Any]:
    """What belongs to each of the measured calls of a `Rotation`, from what belongs to each set."""
    return [per_set[call % len(per_set)] for call in range(warmup, warmup + repeats)]
