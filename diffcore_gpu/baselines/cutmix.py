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

from dataclasses import dataclass

from torch import nn

from diffcore_gpu.baselines._base import Batch, Mixed, Need, TorchvisionBaseline, check_number


@dataclass(eq=False, kw_only=True)
class CutMix(TorchvisionBaseline):
    """CutMix by torchvision.

    Args:
        alpha: of the Beta distribution, above 0.
    """

    name, title = "cutmix", "CutMix"
    needs = Need.PARTNERS

    alpha: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("alpha of CutMix", self.alpha, 0, above=True)
        self._transform = self._make_transform("CutMix", alpha=self.alpha, num_classes=self.num_classes)

    def mix(self, batch: Batch, model: nn.Module) -> Mixed:
        """Paste a box of each image's neighbour."""
        with self._own_draws():
            images, targets = self._transform(batch.images, batch.labels)
        return Mixed(images, targets)
