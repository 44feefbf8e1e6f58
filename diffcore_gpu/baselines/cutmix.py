"""CutMix: Yun, Han, Oh, Chun, Choe, Yoo, "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
Features", ICCV 2019.

    x̃_i = M⊙x_i + (1 − M)⊙x_j,   ỹ_i = λ'·y_i + (1 − λ')·y_j

M is 0 inside a box whose sides are sqrt(1 − λ) of the image's, λ ~ Beta(α, α), around a uniform centre, clipped at the
borders; λ' = 1 − (area of the clipped box)/(H·W). One λ and one box for the batch.

The mixing is `torchvision.transforms.v2.CutMix` with α = 1, the paper's default too. Image i is mixed with its
neighbour i − 1: a random partner in a shuffled batch, but one that is never the image itself, where the authors' code
draws a permutation. To find the neighbours torchvision copies the whole batch, where the authors' code copies boxes.
Left out: the probability of mixing (1 for ImageNet, 0.5 for CIFAR in the paper), which is 1 here.
"""

from __future__ import annotations

import torch
from torch import nn

from diffcore_gpu.baselines._base import Batch, Mixed, Need
from diffcore_gpu.baselines.arguments import check_number
from diffcore_gpu.baselines.own_draws import own_draws
from diffcore_gpu.baselines.pairs import check_number_of_classes, check_pairs, library


class CutMix:
    """CutMix by torchvision.

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

    name = "cutmix"
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
        self.num_classes = check_number_of_classes(num_classes, "CutMix")
        check_number("alpha of CutMix", alpha, 0, above=True)
        self._mix = library("torchvision.transforms.v2", "CutMix").CutMix(alpha=alpha, num_classes=num_classes)
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, batch: Batch, model: nn.Module) -> Mixed:
        """Paste a box of each image's neighbour.

        Raises:
            ValueError: the batch cannot be paired.
        """
        check_pairs(batch, self.num_classes, "CutMix")
        with own_draws(self._generator):
            images, targets = self._mix(batch.images, batch.labels)
        return Mixed(images, targets)
