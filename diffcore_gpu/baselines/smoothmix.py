"""SmoothMix: Lee, Zaheer, Astrid, Lee, "SmoothMix: a Simple Yet Effective Data Augmentation to Train Robust
Classifiers", CVPR Workshops 2020.

    x̃_i = (1 − G)⊙x_i + G⊙x_j,   ỹ_i = (1 − λ)·y_i + λ·y_j,   λ = mean of G
    G(r, c) = exp(−(r − μ_r)²/(2σ_r²) − (c − μ_c)²/(2σ_c²))

The centre (μ_r, μ_c) is uniform over the image and σ_r = s·H, σ_c = s·W with s ~ U(0.25, 0.5); one mask for the
batch. This is SmoothMix-C, the paper's circular mask with its interval of σ. Left out: SmoothMix-S, a square mask with
a linear ramp, and the probability of mixing, which is 1 here. No code of the authors is known to us; Westlake-AI's
OpenMixup has the same mask.

G is the outer product of two vectors, and λ the product of their means, so that λ needs nothing from the device.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from diffcore_gpu.baselines._base import Baseline, Batch, Mixed, Need
from diffcore_gpu.baselines.images import take, to_device


@dataclass(eq=False, kw_only=True)
class SmoothMix(Baseline):
    """SmoothMix-C with the paper's defaults.

    Args:
        spread: interval of s = σ/side, above 0.
    """

    name, title = "smoothmix", "SmoothMix"
    needs = Need.PARTNERS

    spread: tuple[float, float] = (0.25, 0.5)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.spread[0] <= self.spread[1]:
            raise ValueError(f"SmoothMix needs spread as an interval above 0, not {self.spread}.")

    def mix(self, batch: Batch, model: nn.Module) -> Mixed:
        """Blend each image with its partner under a Gaussian mask."""
        images = batch.images
        height, width = images.shape[2:]
        spread = self._rng.uniform(*self.spread)
        rows, columns = (
            np.exp(-((np.arange(side) + 0.5 - self._rng.uniform(0, side)) ** 2) / (2 * (spread * side) ** 2))
            for side in (height, width)
        )
        lam = float(rows.mean() * columns.mean())
        profile = to_device(torch.from_numpy(np.concatenate([rows, columns]).astype(np.float32)), images.device)
        mask = (profile[:height, None] * profile[height:]).to(images.dtype)
        permutation = self._draw_partner(images)
        out = torch.lerp(images, take(images, permutation), mask)
        return self._mixed(out, batch.labels, permutation, 1.0 - lam, lam)
