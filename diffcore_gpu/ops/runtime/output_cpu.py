"""Memory for outputs on the CPU, kept for the next batch when a batch is freed.

Memory that comes fresh from the system is zeroed and mapped page by page when it is first written. For a large batch
that takes several times as long as the mix, and a training loop would pay it at every step: the C library gives very
large blocks back to the system as soon as they are freed.
"""

from __future__ import annotations

import weakref
from collections import deque

import numpy as np
import torch
from torch import Tensor

_KEPT_FROM = 32 << 20
"""Bytes of an output from which its memory is kept. Smaller ones the GNU C library keeps by itself, in less time."""

_free: deque[Tensor] = deque(maxlen=2)
"""Blocks that no output uses. Two, since a loop often holds one batch while it makes the next; the older one goes."""


def _take(nbytes: int) -> Tensor:
    """uint8 memory of at least this size, of no more than twice as much."""
    for _ in range(len(_free)):
        try:
            block = _free.pop()  # atomic: no other thread gets the same
        except IndexError:  # another thread was faster
            break
        if nbytes <= block.shape[0] <= 2 * nbytes:
            return block
        _free.appendleft(block)
    return torch.empty(nbytes, dtype=torch.uint8)


def _kept(nbytes: int) -> Tensor:
    """uint8 memory of this size, which is kept for a later output when the last tensor on it is freed."""
    with torch.inference_mode(False):  # the block outlives the mode of this call
        block = _take(nbytes)
    # torch holds the array as long as any tensor is on its memory, and drops it then.
    array: np.ndarray[tuple[int], np.dtype[np.uint8]] = block.numpy()[:nbytes]
    weakref.finalize(array, _free.append, block).atexit = False
    return torch.from_numpy(array)


def empty_output_like(images: Tensor) -> Tensor:
    """Uninitialized memory for a mixed batch.

    Args:
        images: contiguous or channels_last, on the CPU.

    Returns:
        A new tensor of the same shape, dtype and strides. When the last tensor on its memory is freed, the memory is
        kept for a later output: at most two blocks, together at most twice the largest batch.
    """
    nbytes = images.nbytes
    if nbytes < _KEPT_FROM:
        return torch.empty_like(images)
    return _kept(nbytes).view(images.dtype).as_strided(images.shape, images.stride())


def empty_output_of(shape: tuple[int, int, int, int], dtype: torch.dtype, channels_last: bool) -> Tensor:
    """`empty_output_like` for a batch of this shape (B, C, H, W), contiguous or channels_last."""
    batch, channels, height, width = shape
    nbytes = batch * channels * height * width * dtype.itemsize
    if nbytes < _KEPT_FROM:
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        return torch.empty(shape, dtype=dtype, memory_format=memory_format)
    memory = _kept(nbytes).view(dtype)
    return memory.view(batch, height, width, channels).permute(0, 3, 1, 2) if channels_last else memory.view(shape)
