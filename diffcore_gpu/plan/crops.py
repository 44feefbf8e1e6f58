"""Which part of each image is shown: random resized crops with mirroring, and the crops of evaluation.

Like a mix plan, a random crop is a function of (seed, round, dataset index) alone and decided with integers and single
exactly rounded float32 operations, on Philox streams of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from diffcore_gpu.kernels.spec import TABLE_BITS
from diffcore_gpu.plan.beta import GRID
from diffcore_gpu.plan.draw import draw_crop, round_for


@dataclass(frozen=True)
class CropPlan:
    """What is shown of each image of a batch of B.

    Attributes:
        crop: int32 [B, 4], (top, left, bottom, right) in pixels of the source, half-open.
        mirror: bool [B], True: left and right are swapped.
    """

    crop: Tensor
    mirror: Tensor


@dataclass(frozen=True)
class RandomResizedCropMirror:
    """The training crop of most recipes, with the distribution of torchvision's `RandomResizedCrop` and flip.

    Attributes:
        size: (height, width) of the output in pixels.
        scale: area of the crop over that of the image, uniform on this interval.
        ratio: aspect ratio (width over height), log-uniform on this interval.
        mirror_prob: probability of swapping left and right.
        eval_share: side of the central crop of evaluation over that of the largest one, in (0, 1]; 0.875 is the crop of
            224 out of a resize to 256.

    Raises:
        ValueError: a value is outside its range.
    """

    size: tuple[int, int]
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    mirror_prob: float = 0.5
    eval_share: float = 0.875

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f"size must be (height, width) of at least 1, got {self.size}.")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale must be an interval (low, high) in (0, 1], got {self.scale}.")
        if not 0 < self.ratio[0] <= self.ratio[1] < float("inf"):
            raise ValueError(f"ratio must be an interval (low, high) above 0, got {self.ratio}.")
        if not 0 <= self.mirror_prob <= 1:
            raise ValueError(f"mirror_prob must lie in [0, 1], got {self.mirror_prob}.")
        if not 0 < self.eval_share <= 1:
            raise ValueError(f"eval_share must lie in (0, 1], got {self.eval_share}.")

    def parameters(self) -> CropParameters:
        """The settings as the integers that the draw works with."""
        low, high = (int(bound * GRID + 0.5) for bound in self.scale)
        return CropParameters(low, high - low + 1, int(self.mirror_prob * GRID + 0.5))

    def side_table(self, device: torch.device | str = "cpu") -> Tensor:
        """What the sides of a square are stretched by, at 2¹⁶ log-uniform aspect ratios.

        Returns:
            float32 [2, 65536]: 1/√ratio for the height, √ratio for the width.
        """
        return _side_table(*self.ratio).to(device)


class CropParameters(NamedTuple):
    """A `RandomResizedCropMirror` in integers; areas and probabilities in units of 2⁻²⁴."""

    area_low: int
    area_span: int
    mirror_below: int


@lru_cache(maxsize=8)
def _side_table(low: float, high: float) -> Tensor:
    position = (torch.arange(1 << TABLE_BITS, dtype=torch.float64) + 0.5) / (1 << TABLE_BITS)
    bounds = torch.tensor([low, high], dtype=torch.float64).log()
    half = (bounds[0] + position * (bounds[1] - bounds[0])) / 2
    return torch.stack([torch.exp(-half), torch.exp(half)]).to(torch.float32)


@lru_cache(maxsize=8)
def _side_table_on(low: float, high: float, device: torch.device) -> Tensor:
    """Kept for each device, so that only the first call waits for the copy."""
    return _side_table(low, high).to(device)


def central_crop(height: int, width: int, ratio: Sequence[float]) -> tuple[int, int, int, int]:
    """The largest central crop whose aspect ratio is allowed: where no attempt fitted, as in torchvision.

    Args:
        height: of the image, in pixels.
        width: of the image, in pixels.
        ratio: the interval (low, high) of width over height.

    Returns:
        (top, left, bottom, right), half-open.
    """
    crop_height, crop_width = height, width
    if width / height < ratio[0]:
        crop_height = max(1, round(width / ratio[0]))
    elif width / height > ratio[1]:
        crop_width = max(1, round(height * ratio[1]))
    top, left = (height - crop_height) // 2, (width - crop_width) // 2
    return top, left, top + crop_height, left + crop_width


def draw_crops(
    index: Tensor,
    config: RandomResizedCropMirror,
    *,
    height: int,
    width: int,
    seed: int = 0,
    round: int | Tensor = 0,
    counterpart: bool = False,
) -> CropPlan:
    """Draw the crop and the mirror flag of each sample, on index's device; only the first call waits for it.

    Ten attempts are drawn for each sample and the first that fits the image is taken, else a central crop, which is
    the rule of torchvision's `RandomResizedCrop`.

    Args:
        index: int64 [B], the samples' dataset indices.
        config: the distribution.
        height: height of the source images in pixels.
        width: width of the source images in pixels.
        seed: 64-bit key of the random numbers.
        round: an epoch or a step count, taken modulo 2³²; an int, or an int64 tensor of one element on index's device.
        counterpart: draw for the samples' counterparts, with random numbers of their own.

    Returns:
        The crops, each inside its image.

    Raises:
        ValueError: index is not an int64 vector, or a size is below 1.
    """
    round = round_for(index, height, width, round)
    table = _side_table_on(*config.ratio, index.device)
    return draw_crops_from(
        index, config.parameters(), config.ratio, table, height=height, width=width, seed=seed, round=round,
        counterpart=counterpart,
    )  # fmt: skip


def draw_crops_from(
    index: Tensor,
    parameters: CropParameters,
    ratio: Sequence[float],
    side_table: Tensor,
    *,
    height: int,
    width: int,
    seed: int,
    round: Tensor,
    counterpart: bool,
) -> CropPlan:
    """`draw_crops` on tensors of one device, without a look at their values: nothing is copied to the host.

    Args:
        index: int64 [B].
        parameters: `RandomResizedCropMirror.parameters`.
        ratio: its interval of aspect ratios.
        side_table: its `side_table`, on index's device.
        height: of the source images, in pixels.
        width: of the source images, in pixels.
        seed: 64-bit key.
        round: int64, one element.
        counterpart: as in `draw_crops`.
    """
    drawn = draw_crop(
        index, parameters[:2], parameters.mirror_below, central_crop(height, width, ratio), side_table, height=height,
        width=width, seed=seed, round=round, counterpart=counterpart,
    )  # fmt: skip
    return CropPlan(*drawn)


def whole_image(batch: int, *, height: int, width: int, device: torch.device | str = "cpu") -> CropPlan:
    """The whole of each image, not mirrored: a plain resize.

    Args:
        batch: B.
        height: height of the source images in pixels.
        width: width of the source images in pixels.
        device: of the plan.
    """
    return _same_for_all(batch, (0, 0, height, width), device)


def center_crop(
    batch: int, *, height: int, width: int, size: tuple[int, int], share: float = 0.875,
    device: torch.device | str = "cpu",
) -> CropPlan:  # fmt: skip
    """The central crop of evaluation, not mirrored.

    The largest central box of the output's aspect ratio, times `share`: 0.875 is the crop of 224 out of a resize to
    256.

    Args:
        batch: B.
        height: height of the source images in pixels.
        width: width of the source images in pixels.
        size: (height, width) of the output, for its aspect ratio.
        share: side of the crop over that of the largest box, in (0, 1].
        device: of the plan.

    Raises:
        ValueError: share is outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1], got {share}.")
    factor = share * min(height / size[0], width / size[1])
    crop_height, crop_width = (
        max(1, min(full, round(factor * side))) for full, side in zip((height, width), size, strict=True)
    )
    top, left = (height - crop_height) // 2, (width - crop_width) // 2
    return _same_for_all(batch, (top, left, top + crop_height, left + crop_width), device)


def _same_for_all(batch: int, box: tuple[int, int, int, int], device: torch.device | str) -> CropPlan:
    # filled and not copied, since a copy of host memory would wait for a GPU
    crop = torch.stack([torch.full((batch,), side, dtype=torch.int32, device=device) for side in box], dim=1)
    return CropPlan(crop, torch.zeros(batch, dtype=torch.bool, device=device))
