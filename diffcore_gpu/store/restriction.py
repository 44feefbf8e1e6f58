"""The pairs of a part of the samples."""

from __future__ import annotations

import torch
from torch import Tensor

from diffcore_gpu.store.fingerprint import Int64Array


def pairs_of(pair_ptr: Tensor, samples: Int64Array) -> tuple[Tensor, Tensor]:
    """Leave out the pairs of all other samples.

    Args:
        pair_ptr: int64 [num_samples + 1].
        samples: int64 [n], each in [0, num_samples); repeats are allowed.

    Returns:
        The new pair_ptr, int64 [num_samples + 1], and which of the old pairs remain, int64 [pairs], ascending.
    """
    kept = torch.zeros(pair_ptr.shape[0] - 1, dtype=torch.bool)
    kept[torch.from_numpy(samples)] = True
    counts = pair_ptr.diff()
    new = torch.zeros_like(pair_ptr)
    torch.cumsum(torch.where(kept, counts, 0), 0, out=new[1:])
    return new, torch.repeat_interleave(kept, counts).nonzero().flatten()
