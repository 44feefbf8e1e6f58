"""GuidedMixup: Kang, Kim, "GuidedMixup: An Efficient Mixup Strategy Guided by Saliency Maps", AAAI 2023.

    s = normalize(blur(saliency(x))),   m_i = s_i/(s_i + s_π(i)),
    x̃_i = m_i⊙x_i + (1 − m_i)⊙x_π(i),   ỹ_i = λ_i·y_i + (1 − λ_i)·y_π(i),   λ_i = mean of m_i

The saliency is the spectral residual of the image (Guided-SR) or the gradient of the loss (Guided-AP, which needs an
extra forward and backward pass); see `saliency.py`. The blur is 7×7 with σ = 3, and each map is divided by its sum. π
is a random permutation, or one cycle through the batch that walks to what is most distant in D_ij = ‖s_i − s_j‖:

    (i₁, i₂) = argmax D,   i_{t+1} = argmax over those not yet visited of D[i_t, ·],   π(i_t) = i_{t+1},   π(i_B) = i₁

The distances are computed on the device. The walk is a chain of B choices of which each needs the one before, so it is
made on the CPU with one copy of the B×B distances there and one of π back, instead of B rounds of small kernels.

Settings are those of the authors' code. Where both maps are 0, m is 1/2; there the authors' code divides 0 by 0.

Left out: the authors' options that their paper does not use (blocks, a random σ, a loss on the clean images too).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from diffcore_gpu.baselines._base import Baseline, Batch, Mixed, Need, check_count, check_number, library
from diffcore_gpu.baselines.images import take
from diffcore_gpu.baselines.saliency import as_distribution, blurred, gradient_saliency, spectral_residual


@dataclass(eq=False, kw_only=True)
class GuidedMixup(Baseline):
    """GuidedMixup with the authors' defaults.

    Args:
        saliency: "sr", the spectral residual, or "ap", the gradient of the loss.
        pairing: "random" or "greedy".
        kernel_size: side of the Gaussian blur, pixels, odd.
        sigma: of the Gaussian blur, pixels, above 0.
    """

    title = "GuidedMixup"

    saliency: Literal["sr", "ap"] = "sr"
    pairing: Literal["random", "greedy"] = "greedy"
    kernel_size: int = 7
    sigma: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.saliency not in ("sr", "ap"):
            raise ValueError(f'GuidedMixup needs saliency as "sr" or "ap", not {self.saliency!r}.')
        if self.pairing not in ("random", "greedy"):
            raise ValueError(f'GuidedMixup needs pairing as "random" or "greedy", not {self.pairing!r}.')
        check_count("kernel_size of GuidedMixup", self.kernel_size, 1)
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size of GuidedMixup must be odd, not {self.kernel_size}.")
        check_number("sigma of GuidedMixup", self.sigma, 0, above=True)
        self.name = f"guided-{self.saliency}-{self.pairing}"
        self.needs = Need.PARTNERS | Need.GRADIENTS if self.saliency == "ap" else Need.PARTNERS
        self._functional = library("torchvision.transforms.v2.functional", "GuidedMixup")

    def mix(self, batch: Batch, model: nn.Module) -> Mixed:
        """Mix each image with its partner, pixel by pixel in the ratio of their saliency."""
        images = batch.images
        if min(images.shape[2:]) <= self.kernel_size // 2:
            raise ValueError(
                f"GuidedMixup needs images larger than half its blur of {self.kernel_size} pixels, "
                f"not of {images.shape[2]}×{images.shape[3]}."
            )
        maps = self.saliency_maps(batch, model)
        greedy = self.pairing == "greedy"
        permutation = greedy_cycle(squared_distances(maps)) if greedy else self._draw_partner(images)
        weight = (maps / (maps + maps[permutation])).nan_to_num_(nan=0.5)  # 0 / 0; the maps are finite
        out = torch.lerp(take(images, permutation), images, weight[:, None].to(images.dtype))
        lam = weight.mean((1, 2))
        return self._mixed(out, batch.labels, permutation, lam, 1.0 - lam)

    def saliency_maps(self, batch: Batch, model: nn.Module) -> Tensor:
        """float32 [B, H, W]: blurred saliency, each map of sum 1."""
        if self.saliency == "ap":
            maps = gradient_saliency(model, batch.images, batch.labels)
        else:
            maps = spectral_residual(self._functional, batch.images, kernel_size=self.kernel_size, sigma=self.sigma)
        return as_distribution(blurred(self._functional, maps, kernel_size=self.kernel_size, sigma=self.sigma))


@dataclass(eq=False, kw_only=True)
class GuidedSR(GuidedMixup):
    """GuidedMixup by the spectral residual; see `GuidedMixup`."""

    saliency: Literal["sr", "ap"] = field(default="sr", init=False)
    kernel_size: int = field(default=7, init=False)
    sigma: float = field(default=3.0, init=False)


@dataclass(eq=False, kw_only=True)
class GuidedAP(GuidedMixup):
    """GuidedMixup by the gradient of the loss; see `GuidedMixup`."""

    saliency: Literal["sr", "ap"] = field(default="ap", init=False)
    kernel_size: int = field(default=7, init=False)
    sigma: float = field(default=3.0, init=False)


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
