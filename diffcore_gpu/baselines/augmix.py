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

import torch
from torch import Tensor, nn

from diffcore_gpu.baselines._base import Batch, Mixed, Need, one_hot
from diffcore_gpu.baselines.arguments import check_count, check_images, check_number
from diffcore_gpu.baselines.images import Normalization
from diffcore_gpu.baselines.own_draws import own_draws
from diffcore_gpu.baselines.pairs import check_number_of_classes, library, to_device


class AugMix:
    """AugMix by torchvision, with its magnitudes and otherwise the authors' defaults.

    Args:
        num_classes: K.
        mean: of the normalization, for images in [0, 1], one number for each channel.
        std: of the normalization, likewise.
        seed: of the method's own generator.
        severity: of the operations, from 1 to 10.
        mixture_width: chains.
        chain_depth: operations in a chain; −1: 1 to 3, drawn.
        alpha: of the Dirichlet and Beta distributions, above 0.
        all_ops: use brightness, colour, contrast and sharpness too.

    Raises:
        ValueError: a setting is outside its range.
        ImportError: torchvision is not installed.
    """

    name = "augmix"
    needs = Need.NOTHING

    def __init__(
        self,
        num_classes: int,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        seed: int = 0,
        severity: int = 3,
        mixture_width: int = 3,
        chain_depth: int = -1,
        alpha: float = 1.0,
        all_ops: bool = False,
    ) -> None:
        self.num_classes = check_number_of_classes(num_classes, "AugMix")
        self._normalization = Normalization(mean, std)
        self._transform = library("torchvision.transforms.v2", "AugMix").AugMix(
            severity=check_count("severity", severity, 1, 10),
            mixture_width=check_count("mixture_width", mixture_width, 1),
            chain_depth=check_count("chain_depth", chain_depth, -1),
            alpha=check_number("alpha", alpha, 0, above=True),
            all_ops=all_ops,
        )
        # torchvision draws weights on the device, from a generator that is not ours.
        self._transform._sample_dirichlet = _sample_dirichlet_on_cpu(alpha)
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, batch: Batch, model: nn.Module) -> Mixed:
        """Change each image by itself.

        Raises:
            ValueError: the images are not float [B, C, H, W] with the channels of mean and std, C = 1 or 3.
        """
        images = batch.images
        check_images(batch, self._normalization.channels, "AugMix")
        if images.shape[1] not in (1, 3):
            raise ValueError(f"AugMix needs images of 1 or 3 channels, not {images.shape[1]}.")
        with torch.no_grad(), own_draws(self._generator):
            bytes_ = to_bytes(self._normalization.pixels(images))
            changed = torch.stack([self._transform(image) for image in bytes_])
            mixed = self._normalization.images(changed.float() / 255, like=images)
        return Mixed(mixed, one_hot(batch.labels, self.num_classes))


def _sample_dirichlet_on_cpu(alpha: float) -> Callable[[Tensor], Tensor]:
    def sample(parameters: Tensor) -> Tensor:
        return to_device(torch._sample_dirichlet(torch.full(parameters.shape, alpha)), parameters.device)

    return sample


def to_bytes(pixels: Tensor) -> Tensor:
    """uint8, the nearest of 256 levels, of float pixels in [0, 1]."""
    return (pixels * 255).round_().clamp_(0, 255).to(torch.uint8)
