"""Images in blocks."""

from __future__ import annotations

import torch

from diffcore_gpu.baselines.blocks import block_shares, cut


def test_cut_shows_the_blocks() -> None:
    images = torch.arange(2 * 3 * 8 * 12.0).reshape(2, 3, 8, 12)
    cells = cut(images, 4)
    assert cells.shape == (2, 3, 4, 2, 4, 3)
    torch.testing.assert_close(cells[1, 2, 3, :, 1], images[1, 2, 6:8, 3:6])


def test_shares_sum_to_one_and_follow_the_saliency() -> None:
    saliency = torch.rand(3, 8, 12)
    shares = block_shares(saliency, 4)
    torch.testing.assert_close(shares.sum((1, 2)), torch.ones(3))
    torch.testing.assert_close(shares[1, 2, 3], saliency[1, 4:6, 9:12].sum() / saliency[1].sum())


def test_maps_without_use_become_uniform() -> None:
    saliency = torch.zeros(3, 4, 4)
    saliency[1, 0, 0] = torch.nan
    saliency[2, 0, 0] = torch.inf
    torch.testing.assert_close(block_shares(saliency, 2), torch.full((3, 2, 2), 0.25))
