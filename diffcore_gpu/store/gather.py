"""Copying scattered images out of memory-mapped shards, at about the speed of memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from diffcore_gpu.store.fingerprint import Int64Array


class ShardGather:
    """Copies rows out of `shards`, uint8 [n_i, C, H, W], each with `rows_per_shard` rows except the last.

    Where all rows lie in one shard, torch's `index_select` on int64 is the fastest. Across shards it cannot write to
    scattered places; there numpy's copy of one image has the least overhead, and beats torch's parallel copy of each
    image as well as Python threads that share the images (they wait for each other's interpreter lock).
    """

    def __init__(self, shards: Sequence[torch.Tensor], rows_per_shard: int) -> None:
        self._rows_per_shard = rows_per_shard
        self._shards = shards
        self._arrays = [shard.numpy() for shard in shards]
        aligned = all(shard.data_ptr() % 8 == 0 and shard[0].numel() % 8 == 0 for shard in shards)
        self._wide = [_as_int64(shard) for shard in shards] if aligned else None

    def shards_of(self, rows: Int64Array) -> set[int]:
        """The shards in which rows int64 [n] lie."""
        return set((rows // self._rows_per_shard).tolist())

    def copy(self, rows: Int64Array, out: torch.Tensor) -> None:
        """Copy the images of rows int64 [n], n ≥ 1, all in range, into contiguous `out` uint8 [n, C, H, W]."""
        numbers, places = divmod(rows, self._rows_per_shard)
        first = numbers[0]
        if (numbers == first).all():
            index = torch.from_numpy(places)
            if self._wide is not None and out.data_ptr() % 8 == 0:
                torch.index_select(self._wide[first], 0, index, out=_as_int64(out))
            else:
                torch.index_select(self._shards[first], 0, index, out=out)
            return
        target = out.numpy()
        for position, (number, place) in enumerate(zip(numbers.tolist(), places.tolist(), strict=True)):
            target[position] = self._arrays[number][place]


def _as_int64(images: torch.Tensor) -> torch.Tensor:
    """Contiguous images [n, C, H, W] as int64 [n, C·H·W / 8], sharing memory: torch gathers these faster than bytes."""
    return images.view(len(images), -1).view(torch.int64)
