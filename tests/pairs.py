"""Pairs for tests of the plan, without a store behind them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class FakePairs:
    """What `draw_plan` needs of a store."""

    pair_ptr: Tensor
    pair_row: Tensor
    num_rows: int


def pairs_of_counts(counts: Tensor, num_rows: int | None = None) -> FakePairs:
    """Sample i has counts[i] rows; rows are numbered through unless `num_rows` folds them."""
    pair_ptr = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    total = int(pair_ptr[-1])
    pair_row = torch.arange(total)
    if num_rows is None:
        return FakePairs(pair_ptr, pair_row, total)
    return FakePairs(pair_ptr, pair_row * 7 % num_rows, num_rows)


def one_row_each(num_samples: int) -> FakePairs:
    """Row i belongs to sample i."""
    return pairs_of_counts(torch.ones(num_samples, dtype=torch.int64))
