"""Attentive CutMix: Walawalkar, Shen, Liu, Savvides, "Attentive CutMix: An Enhanced Data Augmentation Approach for Deep
Learning Based Image Classification", ICASSP 2020.

    x̃_i = M_j⊙x_j + (1 − M_j)⊙x_i,   ỹ_i = λ·y_j + (1 − λ)·y_i,   λ = mean of M_j

M_j marks the N = 6 cells of the 7×7 grid in which the last features of x_j are strongest, in the mean over channels,
each cell blown up to its 32×32 pixels; they are pasted where they were. With equal cells λ = N/49. Where the image's
side is no multiple of the grid's, cells differ by a pixel and λ is the share of the pixels, image by image.

The paper takes the features from a ResNet-50 that was trained on ImageNet; give one as `extractor` to have that.
Without one, the model that is trained is asked, as OpenMixup does. Either runs without gradients in evaluation mode, as
a trained extractor does, and is put back into its modes, so BatchNorm's running statistics do not change.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from diffcore_gpu.baselines._base import Baseline, Batch, Mixed, Need, check_count
from diffcore_gpu.baselines.features import FeatureReader, eager, evaluating
from diffcore_gpu.baselines.images import take


@dataclass(eq=False, kw_only=True)
class AttentiveCutMix(Baseline):
    """Attentive CutMix with the paper's defaults.

    Args:
        cells: N, cells of the grid that are pasted, from 1.
        extractor: a trained model on the device of the batch that takes images normalized as they are; None: the model
            that is trained.
    """

    name, title = "attentive-cutmix", "Attentive CutMix"
    needs = Need.PARTNERS | Need.ACTIVATIONS

    cells: int = 6
    extractor: nn.Module | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("cells of Attentive CutMix", self.cells, 1)
        self._reader = FeatureReader("Attentive CutMix")

    def mix(self, batch: Batch, model: nn.Module) -> Mixed:
        """Paste the strongest cells of each image's partner."""
        images = batch.images
        extractor = eager(self.extractor or model)
        with evaluating(extractor):
            features, _ = self._reader.read(extractor, images)
        permutation = self._draw_partner(images)
        mask = strongest_cells(features, self.cells, (images.shape[2], images.shape[3]))[permutation]
        out = torch.where(mask[:, None], take(images, permutation), images)
        lam = mask.float().mean((1, 2))
        return self._mixed(out, batch.labels, permutation, 1.0 - lam, lam)


def strongest_cells(features: Tensor, cells: int, size: tuple[int, int]) -> Tensor:
    """bool [B, H, W]: the pixels of the cells whose mean over channels is largest.

    Args:
        features: float [B, C, h, w].
        cells: N, how many.
        size: (H, W).

    Raises:
        ValueError: there are not more than N cells.
    """
    batch, _, height, width = features.shape
    if height * width <= cells:
        raise ValueError(
            f"Attentive CutMix pastes {cells} cells, and the features have {height}×{width} for images of "
            f"{size[0]}×{size[1]}; give larger images or fewer cells."
        )
    strength = features.float().mean(1).flatten(1)
    grid = torch.zeros_like(strength).scatter_(1, strength.topk(cells, dim=1).indices, 1.0)
    return interpolate(grid.view(batch, 1, height, width), size, mode="nearest")[:, 0] > 0
