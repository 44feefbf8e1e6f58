"""The greedy pairing of GuidedMixup: one cycle through the batch that walks to what is most distant.

    (i₁, i₂) = argmax D,   i_{t+1} = argmax over those not yet visited of D[i_t, ·],   π(i_t) = i_{t+1},   π(i_B) = i₁

The distances are computed on the device. The walk is a chain of B choices of which each needs the one before, so it is
made on the CPU with one copy of the B×B distances there and one of π back, instead of B rounds of small kernels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def squared_distances(maps: Tensor) -> Tensor:
    """float64 [B, B]: ‖a_i − a_j‖² of maps [B, …], by one matrix product.

    The mean map is taken off first, which changes no distance and spares the digits that ‖a‖² + ‖b‖² − 2a·b would lose;
    float64 keeps the product out of TF32 and autocast. The largest are those of ‖a_i − a_j‖, which the method ranks.
    """
    flat = maps.flatten(1).double()
    flat = flat - flat.mean(0)
    product = flat @ flat.T
    norms = product.diagonal()
    # The sum of both halves is symmetric to the last bit, so that the walk starts at the same one of the farthest two.
    return norms[:, None] + norms - (product + product.T)


def greedy_cycle(distances: Tensor) -> Tensor:
    """The permutation π of the walk, which is one cycle through all of the batch.

    Args:
        distances: float [B, B], B ≥ 2; what is on the diagonal does not matter. Of equals, the first is taken. Waits
            for the device once.

    Returns:
        int64 [B] on the device of `distances`.
    """
    left = distances.detach().cpu().numpy().copy()
    size = len(left)
    np.fill_diagonal(left, -np.inf)
    order = np.empty(size, dtype=np.int64)
    first, current = divmod(int(left.argmax()), size)
    order[first] = current
    left[:, first] = -np.inf
    for _ in range(size - 2):
        following = int(left[current].argmax())
        order[current] = following
        left[:, current] = -np.inf
        current = following
    order[current] = first
    return torch.from_numpy(order).to(distances.device, non_blocking=True)
