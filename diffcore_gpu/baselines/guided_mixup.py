"""GuidedMixup: Kang, Kim, "GuidedMixup: An Efficient Mixup Strategy Guided by Saliency Maps", AAAI 2023.

    s = normalize(blur(saliency(x))),   m_i = s_i/(s_i + s_π(i)),
    x̃_i = m_i⊙x_i + (1 − m_i)⊙x_π(i),   ỹ_i = λ_i·y_i + (1 − λ_i)·y_π(i),   λ_i = mean of m_i

The saliency is the spectral residual of the image (Guided-SR) or the gradient of the loss (Guided-AP, which needs an
extra forward and backward pass); see `saliency.py`. The blur is 7×7 with σ = 3, and each map is divided by its sum. π
is a random permutation or the greedy cycle of `one_cycle.py`, through the whole batch. Settings are those of the
authors' code. Where both maps are 0, m is 1/2; there the authors' code divides 0 by 0.

Left out: the authors' options that their paper does not use (blocks, a random σ, a loss on the clean images too).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from diffcore_gpu.baselines._base import Batch, Mixed, Need
from diffcore_gpu.baselines.arguments import check_count, check_number
from diffcore_gpu.baselines.one_cycle import greedy_cycle, squared_distances
from diffcore_gpu.baselines.pairs import (
    check_number_of_classes,
    check_pairs,
    draw_permutation,
    library,
    mixed_targets,
    take,
    to_device,
)
from diffcore_gpu.baselines.saliency import as_distribution, blurred, gradient_saliency, spectral_residual


class GuidedMixup:
    """GuidedMixup with the authors' defaults.

    Args:
        num_classes: K.
        mean: not used; part of the protocol. The saliency is that of the normalized images.
        std: not used; part of the protocol.
        seed: of the method's own generator.
        saliency: "sr", the spectral residual, or "ap", the gradient of the loss.
        pairing: "random" or "greedy".
        kernel_size: side of the Gaussian blur, pixels, odd.
        sigma: of the Gaussian blur, pixels, above 0.

    Raises:
        ValueError: a setting is outside its range.
        ImportError: torchvision is not installed.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        seed: int = 0,
        saliency: Literal["sr", "ap"] = "sr",
        pairing: Literal["random", "greedy"] = "greedy",
        kernel_size: int = 7,
        sigma: float = 3.0,
    ) -> None:
        self.num_classes = check_number_of_classes(num_classes, "GuidedMixup")
        if saliency not in ("sr", "ap"):
            raise ValueError(f'GuidedMixup needs saliency as "sr" or "ap", not {saliency!r}.')
        if pairing not in ("random", "greedy"):
            raise ValueError(f'GuidedMixup needs pairing as "random" or "greedy", not {pairing!r}.')
        if check_count("kernel_size of GuidedMixup", kernel_size, 1) % 2 == 0:
            raise ValueError(f"kernel_size of GuidedMixup must be odd, not {kernel_size}.")
        self.saliency, self.pairing, self.kernel_size = saliency, pairing, kernel_size
        self.sigma = check_number("sigma of GuidedMixup", sigma, 0, above=True)
        self.name = f"guided-{saliency}-{pairing}"
        self.needs = Need.PAIRS | Need.GRADIENTS if saliency == "ap" else Need.PAIRS
        self._functional = library("torchvision.transforms.v2.functional", "GuidedMixup")
        self._rng = np.random.default_rng(seed)

    def __call__(self, batch: Batch, model: nn.Module) -> Mixed:
        """Mix each image with its partner, pixel by pixel in the ratio of their saliency.

        Raises:
            ValueError: the batch cannot be paired, or an image is smaller than the blur.
        """
        check_pairs(batch, self.num_classes, "GuidedMixup")
        images = batch.images
        if min(images.shape[2:]) <= self.kernel_size // 2:
            raise ValueError(
                f"GuidedMixup needs images larger than half its blur of {self.kernel_size} pixels, "
                f"not of {images.shape[2]}×{images.shape[3]}."
            )
        maps = self.saliency_maps(batch, model)
        if self.pairing == "greedy":
            permutation = greedy_cycle(squared_distances(maps))
        else:
            permutation = to_device(draw_permutation(self._rng, len(images)), images.device)
        weight = (maps / (maps + maps[permutation])).nan_to_num_(nan=0.5)  # 0 / 0; the maps are finite
        out = torch.lerp(take(images, permutation), images, weight[:, None].to(images.dtype))
        lam = weight.mean((1, 2))
        return Mixed(out, mixed_targets(batch.labels, permutation, lam, 1.0 - lam, self.num_classes))

    def saliency_maps(self, batch: Batch, model: nn.Module) -> Tensor:
        """float32 [B, H, W]: blurred saliency, each map of sum 1."""
        if self.saliency == "ap":
            maps = gradient_saliency(model, batch.images, batch.labels)
        else:
            maps = spectral_residual(self._functional, batch.images, kernel_size=self.kernel_size, sigma=self.sigma)
        return as_distribution(blurred(self._functional, maps, kernel_size=self.kernel_size, sigma=self.sigma))


class GuidedSR(GuidedMixup):
    """GuidedMixup by the spectral residual; see `GuidedMixup`."""

    def __init__(
        self,
        num_classes: int,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        seed: int = 0,
        pairing: Literal["random", "greedy"] = "greedy",
    ) -> None:
        super().__init__(num_classes, mean=mean, std=std, seed=seed, saliency="sr", pairing=pairing)


class GuidedAP(GuidedMixup):
    """GuidedMixup by the gradient of the loss; see `GuidedMixup`."""

    def __init__(
        self,
        num_classes: int,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        seed: int = 0,
        pairing: Literal["random", "greedy"] = "greedy",
    ) -> None:
        super().__init__(num_classes, mean=mean, std=std, seed=seed, saliency="ap", pairing=pairing)
