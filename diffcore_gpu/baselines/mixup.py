"""Mixup: Zhang, Cissé, Dauphin, Lopez-Paz, "mixup: Beyond Empirical Risk Minimization", ICLR 2018.

    x̃_i = λ·x_i + (1 − λ)·x_j,   ỹ_i = λ·y_i + (1 − λ)·y_j,   λ ~ Beta(α, α), one λ for the batch

The mixing is `torchvision.transforms.v2.MixUp`, with its default α = 1, which fine-grained work uses too (the paper has
0.2 for ImageNet). Image i is mixed with its neighbour i − 1: a random partner in a shuffled batch, but never the image
itself, where the authors' code draws a permutation.
"""

from __future__ import annotations

import torch
from torch import nn

from diffcore_gpu.baselines._base import Batch, Mixed, Need
from diffcore_gpu.baselines.arguments import check_number
from diffcore_gpu.baselines.own_draws import own_draws
from diffcore_gpu.baselines.pairs import check_number_of_classes, check_pairs, is_channels_last, library


class Mixup:
    """Mixup by torchvision.

    Args:
        num_classes: K.
        mean: not used; part of the protocol.
        std: not used; part of the protocol.
        seed: of the method's own generator.
        alpha: of the Beta distribution, above 0.

    Raises:
        ValueError: a setting is outside its range.
        ImportError: torchvision is not installed.
    """

    name = "mixup"
    needs = Need.PAIRS

    def __init__(
        self,
        num_classes: int,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        seed: int = 0,
        alpha: float = 1.0,
    ) -> None:
        self.num_classes = check_number_of_classes(num_classes, "Mixup")
        check_number("alpha of Mixup", alpha, 0, above=True)
        self._mix = library("torchvision.transforms.v2", "Mixup").MixUp(alpha=alpha, num_classes=num_classes)
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, batch: Batch, model: nn.Module) -> Mixed:
        """Mix each image with its neighbour.

        Raises:
            ValueError: the batch cannot be paired.
        """
        check_pairs(batch, self.num_classes, "Mixup")
        images = batch.images
        channels_last = is_channels_last(images)
        if channels_last:
            # torchvision's roll gives up the memory format on a GPU; the equation does not know which axis is which.
            images = images.permute(0, 2, 3, 1)
        with own_draws(self._generator):
            mixed, targets = self._mix(images, batch.labels)
        return Mixed(mixed.permute(0, 3, 1, 2) if channels_last else mixed, targets)
