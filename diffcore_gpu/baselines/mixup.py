"""Mixup: Zhang, Cissé, Dauphin, Lopez-Paz, "mixup: Beyond Empirical Risk Minimization", ICLR 2018.

    x̃_i = λ·x_i + (1 − λ)·x_j,   ỹ_i = λ·y_i + (1 − λ)·y_j,   λ ~ Beta(α, α), one λ for the batch

The mixing is `torchvision.transforms.v2.MixUp`, with its default α = 1, which fine-grained work uses too (the paper has
0.2 for ImageNet). Image i is mixed with its neighbour i − 1: a random partner in a shuffled batch, but never the image
itself, where the authors' code draws a permutation.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from diffcore_gpu.baselines._base import Batch, Mixed, Need, TorchvisionBaseline, check_number
from diffcore_gpu.baselines.images import is_channels_last


@dataclass(eq=False, kw_only=True)
class Mixup(TorchvisionBaseline):
    """Mixup by torchvision.

    Args:
        alpha: of the Beta distribution, above 0.
    """

    name, title = "mixup", "Mixup"
    needs = Need.PARTNERS

    alpha: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("alpha of Mixup", self.alpha, 0, above=True)
        self._transform = self._make_transform("MixUp", alpha=self.alpha, num_classes=self.num_classes)

    def mix(self, batch: Batch, model: nn.Module) -> Mixed:
        """Mix each image with its neighbour."""
        images = batch.images
        channels_last = is_channels_last(images)
        if channels_last:
            # torchvision's roll gives up the memory format on a GPU; the equation does not know which axis is which.
            images = images.permute(0, 2, 3, 1)
        with self._own_draws():
            mixed, targets = self._transform(images, batch.labels)
        return Mixed(mixed.permute(0, 3, 1, 2) if channels_last else mixed, targets)
