"""Images cut into b × b equal blocks, and the share of each block in the image's saliency."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d


def cut(images: Tensor, blocks: int) -> Tensor:
    """A view [B, C, b, h, b, w] of images [B, C, H, W], h = H/b and w = W/b; b divides H and W."""
    view: Tensor = images.unflatten(3, (blocks, -1)).unflatten(2, (blocks, -1))
    return view


def block_shares(saliency: Tensor, blocks: int) -> Tensor:
    """The share of each block in its image's saliency.

    Args:
        saliency: float32 [B, H, W], not negative; `blocks` divides H and W.
        blocks: per side.

    Returns:
        float32 [B, blocks, blocks], sum 1 over an image; all equal where the saliency is zero or not finite.
    """
    height, width = saliency.shape[-2:]
    pooled = avg_pool2d(saliency[:, None], (height // blocks, width // blocks))[:, 0]
    total = pooled.sum((1, 2), keepdim=True)
    usable = (total > 0) & total.isfinite()
    return torch.where(usable, pooled / total, 1 / blocks**2)
