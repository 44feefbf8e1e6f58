"""Resized crops in plain torch: the ground truth of `resized_crop`, written to be read."""

from __future__ import annotations

import torch
from torch import Tensor

from diffcore_gpu.ops.mix.reference import normalize_counterparts


def axis_weights(begin: int, end: int, out: int) -> Tensor:
    """The weights of an antialiased bilinear resize along one axis of the crop [begin, end).

    A triangle of half-width max(scale, 1), with scale = (end − begin) / out, around each output pixel's centre, cut at
    the crop's border and normalized.

    Returns:
        float64 [out, end − begin]; each line sums to 1.
    """
    length = end - begin
    scale = length / out
    support = max(scale, 1.0)
    center = scale * (torch.arange(out, dtype=torch.float64) + 0.5)
    source = torch.arange(length, dtype=torch.float64) + 0.5
    weights = (1 - (source - center[:, None]).abs() / support).clamp(min=0)
    return weights / weights.sum(1, keepdim=True)


def clip_crop(crop: Tensor, height: int, width: int) -> list[tuple[int, int, int, int]]:
    """Boxes [B, 4] (top, left, bottom, right) clipped to an image, each of at least one pixel."""
    clipped = []
    for top, left, bottom, right in crop.tolist():
        t, l = min(max(top, 0), height - 1), min(max(left, 0), width - 1)  # noqa: E741
        clipped.append((t, l, min(max(bottom, t + 1), height), min(max(right, l + 1), width)))
    return clipped


def resized_crop_reference(
    images: Tensor,
    crop: Tensor,
    size: tuple[int, int],
    *,
    mirror: Tensor | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> Tensor:
    """`resized_crop` in plain torch, as two products with dense weight matrices in float64.

    Returns:
        float64 [B, C, h, w], normalized; not rounded to any other type.
    """
    height, width = images.shape[-2:]
    outputs = []
    for sample, (top, left, bottom, right) in enumerate(clip_crop(crop, height, width)):
        source = images[sample, :, top:bottom, left:right].to(torch.float64)
        resized = axis_weights(top, bottom, size[0]) @ source @ axis_weights(left, right, size[1]).T
        outputs.append(resized.flip(-1) if mirror is not None and bool(mirror[sample]) else resized)
    channels = images.shape[1]
    batch = torch.stack(outputs) if outputs else images.new_empty((0, channels, *size), dtype=torch.float64)
    return normalize_counterparts(batch, mean, std)
