"""Copying scattered images out of memory-mapped shards, at about the speed of memory."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence

import numpy as np
import torch

from diffcore_gpu.store.fingerprint import Int64Array

_threads_are_lost = False
"""Whether this process is a fork: OpenMP, which torch's threads come from, waits forever for them in a child."""


def _note_fork() -> None:
    global _threads_are_lost
    _threads_are_lost = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


class ShardGather:
    """Copies rows out of `shards`, uint8 [n_i, C, H, W], each with `rows_per_shard` rows except the last.

    torch's `index_select` copies rows with several threads and without an interpreter between them, but out of one
    tensor only. So the shards are seen as one: a tensor over the address range from the first map to the end of the
    last, of which only the places of images are ever touched. Where the images' places are not multiples of 8 bytes
    (some small sizes), and in a forked process, numpy copies them one by one.
    """

    def __init__(self, shards: Sequence[torch.Tensor], rows_per_shard: int) -> None:
        self._rows_per_shard = rows_per_shard
        self._arrays = [shard.numpy() for shard in shards]
        self._all_rows: torch.Tensor | None = None
        if shards and all(shard.data_ptr() % 8 == 0 and shard[0].numel() % 8 == 0 for shard in shards):
            self._words = shards[0][0].numel() // 8  # of 8 bytes, in an image
            first = min(shard.data_ptr() for shard in shards)
            size = max(shard.data_ptr() + shard.nbytes for shard in shards) - first
            addresses = (ctypes.c_uint8 * size).from_address(first)
            span = torch.from_numpy(np.ctypeslib.as_array(addresses)[: size // 8 * 8].view(np.int64))
            self._all_rows = span.as_strided((len(span) - self._words + 1, self._words), (1, 1))
            self._starts = np.array([(shard.data_ptr() - first) // 8 for shard in shards], np.int64)

    def shards_of(self, rows: Int64Array) -> set[int]:
        """The shards in which rows int64 [n] lie."""
        return set((rows // self._rows_per_shard).tolist())

    def copy(self, rows: Int64Array, out: torch.Tensor) -> None:
        """Copy the images of rows int64 [n], n ≥ 1, all in range, into contiguous `out` uint8 [n, C, H, W]."""
        numbers, places = divmod(rows, self._rows_per_shard)
        if self._all_rows is not None and out.data_ptr() % 8 == 0 and not _threads_are_lost:
            words = torch.from_numpy(self._starts[numbers] + places * self._words)
            torch.index_select(self._all_rows, 0, words, out=out.view(len(out), -1).view(torch.int64))
            return
        target = out.numpy()
        for position, (number, place) in enumerate(zip(numbers.tolist(), places.tolist(), strict=True)):
            target[position] = self._arrays[number][place]
