"""SnapMix: Huang, Wang, Tao, "SnapMix: Semantically Proportional Mixing for Augmenting Fine-grained Data", AAAI 2021.

    x̃_i = x_i with the box B₁ replaced by T(x_j in the box B₂),   ỹ_i = ρ_i·y_i + ρ_j·y_j
    ρ_i = 1 − Σ_{B₁} S_i,   ρ_j = Σ_{B₂} S_j,   S = normalize(upsample(Σ_c w_{y,c}·relu(F_c)))

B₁ and B₂ are CutMix boxes with λ₁, λ₂ ~ Beta(5, 5) of their own, T resizes bilinearly with aligned corners. S is the
class-activation map of the image's own class (last features F, classifier weights w), upsampled bilinearly, its
minimum taken off and divided by its sum; the bias cancels. ρ_i + ρ_j need not be 1; partners of one class get the sum.
Where a map is constant, the share of the box's area stands in.

As in the authors' code the same two boxes serve the whole batch, so pasting is a slice and one small resize;
`per_image=True` draws two for each image. β = 5 and mixing always are the authors' settings for fine-tuning on
CUB-200-2011. The extra forward pass runs without gradients in the mode in which the model is, as theirs does: in
training mode BatchNorm counts it in its running statistics and dropout draws. If a box is empty the batch stays as it
is. Their code counts ρ_i + ρ_j twice for partners of one class, once for each of two equal labels; here it counts once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample, interpolate

from diffcore_gpu.baselines._base import Baseline, Batch, Mixed, Need, check_number
from diffcore_gpu.baselines.features import FeatureReader
from diffcore_gpu.baselines.images import as_like, take, to_device
from diffcore_gpu.baselines.regions import Box, draw_box


@dataclass(eq=False, kw_only=True)
class SnapMix(Baseline):
    """SnapMix with the authors' defaults.

    Args:
        beta: both parameters of the Beta distribution, above 0.
        per_image: draw boxes for each image, not for the batch.
    """

    name, title = "snapmix", "SnapMix"
    needs = Need.PARTNERS | Need.ACTIVATIONS

    beta: float = 5.0
    per_image: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("beta of SnapMix", self.beta, 0, above=True)
        self._reader = FeatureReader("SnapMix", self.num_classes)

    def mix(self, batch: Batch, model: nn.Module) -> Mixed:
        """Paste a resized box of each image's partner, and weigh the labels by what the boxes mean to the model."""
        images = batch.images
        size, _, height, width = images.shape
        permutation = self._draw_permutation(size)
        boxes = [
            (self._draw_box(height, width), self._draw_box(height, width)) for _ in range(size if self.per_image else 1)
        ]
        if not self.per_image and 0 in (boxes[0][0].area, boxes[0][1].area):
            return self._relabeled(images.clone(), batch.labels)
        features, classifier = self._reader.read(model, images)
        assert classifier is not None  # the reader was made with the number of classes
        maps = class_activation_maps(features, classifier, batch.labels, (height, width))
        if self.per_image:
            # Where a box is empty its image stays; a box of nothing has no mass, and is pasted nowhere.
            shown = [both if 0 not in (both[0].area, both[1].area) else (Box(0, 0, 0, 0),) * 2 for both in boxes]
            numbers = torch.cat([permutation[:, None], torch.tensor(shown).flatten(1)], dim=1)
            numbers = to_device(numbers, images.device)
            order, target, source = numbers[:, 0], numbers[:, 1:5], numbers[:, 5:9]
            out = paste_boxes(images, order, target, source)
            own, partner = box_mass(maps, target), box_mass(maps[order], source)
        else:
            order = to_device(permutation, images.device)
            out = _paste_box(images, order, *boxes[0])
            own, partner = _mass(maps, boxes[0][0]), _mass(maps, boxes[0][1])[order]
        return self._mixed(out, batch.labels, order, 1.0 - own, partner)

    def _draw_box(self, height: int, width: int) -> Box:
        return draw_box(self._rng, height, width, float(self._rng.beta(self.beta, self.beta)))


def class_activation_maps(features: Tensor, classifier: nn.Module, labels: Tensor, size: tuple[int, int]) -> Tensor:
    """S of the module's equations.

    Args:
        features: float [B, C, h, w].
        classifier: nn.Linear or 1×1 nn.Conv2d with C inputs.
        labels: int64 [B].
        size: (H, W) of the images.

    Returns:
        float32 [B, H, W], from 0, each of sum 1; a constant map gives 1/(H·W) everywhere.
    """
    with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
        weight = classifier.get_parameter("weight").float().flatten(1)[labels]
        maps = torch.einsum("bchw,bc->bhw", features.float().relu(), weight)
        maps = interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]
        maps = maps - maps.amin((1, 2), keepdim=True)
        total = maps.sum((1, 2), keepdim=True)
        return torch.where(total > 0, maps / total, 1.0 / (size[0] * size[1]))


def box_mass(maps: Tensor, boxes: Tensor) -> Tensor:
    """float32 [B]: the sum of each map [B, H, W] in its box, int64 [B, 4] (top, left, bottom, right), half-open."""
    rows, columns = (_inside(boxes, axis, maps.shape[1 + axis]) for axis in (0, 1))
    # Sums, not matrix products, which TF32 would round.
    return ((maps * columns[:, None]).sum(2) * rows).sum(1)


def paste_boxes(images: Tensor, order: Tensor, target: Tensor, source: Tensor) -> Tensor:
    """Image i with its box target[i] replaced by the box source[i] of image order[i], resized bilinearly.

    All images in one `grid_sample`: row r of the target box, of n rows, comes from row
    top + (r − target top)·(m − 1)/(n − 1) of the source box, of m rows; columns likewise.

    Args:
        images: float [B, C, H, W].
        order: int64 [B].
        target: int64 [B, 4] (top, left, bottom, right), half-open, within the image.
        source: likewise.
    """
    axes = []
    for axis in (0, 1):
        full = images.shape[2 + axis]
        position = torch.arange(full, device=images.device)
        start, length = source[:, axis, None], (source[:, axis + 2] - source[:, axis])[:, None]
        offset = position - target[:, axis, None]
        steps = (target[:, axis + 2] - target[:, axis])[:, None] - 1
        place = start + offset * (length - 1) / steps.clamp(min=1)
        axes.append(place * (2.0 / max(full - 1, 1)) - 1.0)
    rows, columns = axes
    shape = (len(images), images.shape[2], images.shape[3])
    grid = torch.stack([columns[:, None, :].expand(shape), rows[:, :, None].expand(shape)], dim=3)
    with torch.autocast(images.device.type, enabled=False):
        pasted = grid_sample(take(images, order).float(), grid, padding_mode="border", align_corners=True)
    inside = _inside(target, 0, shape[1])[:, :, None] & _inside(target, 1, shape[2])[:, None, :]
    return torch.where(inside[:, None], as_like(pasted, images), images)


def _inside(boxes: Tensor, axis: int, full: int) -> Tensor:
    """bool [B, full]: which rows (axis 0) or columns (axis 1) belong to each box."""
    position = torch.arange(full, device=boxes.device)
    return (position >= boxes[:, axis, None]) & (position < boxes[:, axis + 2, None])


def _mass(maps: Tensor, box: Box) -> Tensor:
    return maps[:, box.top : box.bottom, box.left : box.right].sum((1, 2))


def _paste_box(images: Tensor, order: Tensor, target: Box, source: Box) -> Tensor:
    """`paste_boxes` with the same boxes for the batch, which moves the boxes' pixels alone."""
    cut = take(images[:, :, source.top : source.bottom, source.left : source.right], order)
    cut = interpolate(cut, (target.height, target.width), mode="bilinear", align_corners=True)
    out = images.clone()
    out[:, :, target.top : target.bottom, target.left : target.right] = cut
    return out
