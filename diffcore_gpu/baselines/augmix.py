"""AugMix: Hendrycks, Mu, Cubuk, Zoph, Gilmer, Lakshminarayanan, "AugMix: A Simple Data Processing Method to Improve
Robustness and Uncertainty", ICLR 2020.

    x̃ = m·x + (1 − m)·Σ_i w_i·chain_i(x),   w ~ Dirichlet(α, …, α),   m ~ Beta(α, α)

with three chains of one to three operations each. The label stays. It is `torchvision.transforms.v2.AugMix`, called for
each image, since each draws its own chains, on 8-bit pixels on the images' device.

Width 3, depth drawn, α 1, severity 3, and the operations without those that occur in ImageNet-C (brightness, colour,
contrast, sharpness), which torchvision has by default, are as in the authors' code. The magnitudes are torchvision's,
and they are weaker: at severity 3 it draws one of {0, 1/9, 2/9} of an operation's range for each operation, where the
authors' code draws uniformly from (0.1, 3)/10.

Left out: the Jensen-Shannon loss between three views of a batch, which changes the training rather than the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffcore_gpu.baselines._base import Batch, Mixed, Need, TorchvisionBaseline, check_count, check_number
from diffcore_gpu.baselines.images import to_device


@dataclass(eq=False, kw_only=True)
class AugMix(TorchvisionBaseline):
    """AugMix by torchvision, with its magnitudes and otherwise the authors' defaults.

    Args:
        severity: of the operations, from 1 to 10.
        mixture_width: chains.
        chain_depth: operations in a chain; −1: 1 to 3, drawn.
        alpha: of the Dirichlet and Beta distributions, above 0.
        all_ops: use brightness, colour, contrast and sharpness too.
    """

    name, title = "augmix", "AugMix"
    needs = Need.NOTHING
    on_pixels = True

    severity: int = 3
    mixture_width: int = 3
    chain_depth: int = -1
    alpha: float = 1.0
    all_ops: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("severity", self.severity, 1, 10)
        check_count("mixture_width", self.mixture_width, 1)
        check_count("chain_depth", self.chain_depth, -1)
        check_number("alpha", self.alpha, 0, above=True)
        self._transform = self._make_transform(
            "AugMix",
            severity=self.severity,
            mixture_width=self.mixture_width,
            chain_depth=self.chain_depth,
            alpha=self.alpha,
            all_ops=self.all_ops,
        )
        # torchvision draws weights on the device, from a generator that is not ours.
        self._transform._sample_dirichlet = _sample_dirichlet_on_cpu(self.alpha)

    def mix(self, batch: Batch, model: nn.Module) -> Mixed:
        """Change each image by itself."""
        images = batch.images
        if images.shape[1] not in (1, 3):
            raise ValueError(f"AugMix needs images of 1 or 3 channels, not {images.shape[1]}.")
        with torch.no_grad(), self._own_draws():
            bytes_ = to_bytes(self._normalization.pixels(images))
            changed = torch.stack([self._transform(image) for image in bytes_])
            mixed = self._normalization.images(changed.float() / 255, like=images)
        return self._relabeled(mixed, batch.labels)


def _sample_dirichlet_on_cpu(alpha: float) -> Callable[[Tensor], Tensor]:
    def sample(parameters: Tensor) -> Tensor:
        return to_device(torch._sample_dirichlet(torch.full(parameters.shape, alpha)), parameters.device)

    return sample


def to_bytes(pixels: Tensor) -> Tensor:
    """uint8, the nearest of 256 levels, of float pixels in [0, 1]."""
    return (pixels * 255).round_().clamp_(0, 255).to(torch.uint8)
