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

import numpy as np
import torch
from torch import nn

from diffcore_gpu.baselines._base import Batch, Mixed, Need
from diffcore_gpu.baselines.pairs import (
    check_number_of_classes,
    check_pairs,
    draw_permutation,
    mixed_targets,
    take,
    to_device,
)


class SmoothMix:
    """SmoothMix-C with the paper's defaults.

    Args:
        num_classes: K.
        mean: not used; part of the protocol.
        std: not used; part of the protocol.
        seed: of the method's own generator.
        spread: interval of s = σ/side, above 0.

    Raises:
        ValueError: a setting is outside its range.
    """

    name = "smoothmix"
    needs = Need.PAIRS

    def __init__(
        self,
        num_classes: int,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        seed: int = 0,
        spread: tuple[float, float] = (0.25, 0.5),
    ) -> None:
        self.num_classes = check_number_of_classes(num_classes, "SmoothMix")
        if not 0 < spread[0] <= spread[1]:
            raise ValueError(f"SmoothMix needs spread as an interval above 0, not {spread}.")
        self.spread = spread
        self._rng = np.random.default_rng(seed)

    def __call__(self, batch: Batch, model: nn.Module) -> Mixed:
        """Blend each image with its partner under a Gaussian mask.

        Raises:
            ValueError: the batch cannot be paired.
        """
        check_pairs(batch, self.num_classes, "SmoothMix")
        images = batch.images
        size, _, height, width = images.shape
        spread = self._rng.uniform(*self.spread)
        rows, columns = (
            np.exp(-((np.arange(side) + 0.5 - self._rng.uniform(0, side)) ** 2) / (2 * (spread * side) ** 2))
            for side in (height, width)
        )
        lam = float(rows.mean() * columns.mean())
        profile = to_device(torch.from_numpy(np.concatenate([rows, columns]).astype(np.float32)), images.device)
        mask = (profile[:height, None] * profile[height:]).to(images.dtype)
        permutation = to_device(draw_permutation(self._rng, size), images.device)
        out = torch.lerp(images, take(images, permutation), mask)
        return Mixed(out, mixed_targets(batch.labels, permutation, 1.0 - lam, lam, self.num_classes))
