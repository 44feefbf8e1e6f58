"""Distances between floating-point tensors in units in the last place."""

from __future__ import annotations

import torch
from torch import Tensor


def _position(values: Tensor) -> Tensor:
    """The number of each value in the ordered sequence of all values of its type; −0 and 0 share one."""
    bits = {4: torch.int32, 2: torch.int16}[values.element_size()]
    raw = values.contiguous().view(bits).to(torch.int64)
    return torch.where(raw < 0, -(raw + 2 ** (8 * values.element_size() - 1)), raw)


def ulps_apart(a: Tensor, b: Tensor) -> int:
    """The largest distance between two tensors of one type, in units in the last place; for uint8 in values."""
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    if not a.numel():
        return 0
    if not a.is_floating_point():
        return int((a.to(torch.int64) - b.to(torch.int64)).abs().max())
    assert torch.equal(a.isnan(), b.isnan())
    return int((_position(a.nan_to_num(0.0)) - _position(b.nan_to_num(0.0))).abs().max())
