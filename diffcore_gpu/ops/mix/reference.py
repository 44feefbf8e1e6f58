"""Eqs. 6–8 in plain torch: the ground truth of every kernel, written to be read."""

from __future__ import annotations

import torch
from torch import Tensor

from diffcore_gpu.plan import MixPlan


def normalize_counterparts(
    counterparts: Tensor, mean: tuple[float, ...] | None = None, std: tuple[float, ...] | None = None
) -> Tensor:
    """Bring uint8 counterparts to the range of float images: (g / 255 − mean) / std.

    Args:
        counterparts: uint8 [..., C, H, W].
        mean: C numbers, the mean that was subtracted from the images in units of [0, 1]; None: 0.
        std: C numbers, the standard deviation that they were divided by; None: 1.

    Returns:
        float64 of the same shape.
    """
    channels = counterparts.shape[-3]
    shape = (channels, 1, 1)
    m = torch.tensor(mean or [0.0] * channels, dtype=torch.float64, device=counterparts.device).reshape(shape)
    s = torch.tensor(std or [1.0] * channels, dtype=torch.float64, device=counterparts.device).reshape(shape)
    return (counterparts.to(torch.float64) / 255 - m) / s


def real_weight(plan: MixPlan, height: int, width: int) -> Tensor:
    """The weight of the real image at each pixel: λ (eq. 6) or the mask M_p (eq. 7), and 1 where there is no row.

    Returns:
        float64 [B, 1, height, width] in [0, 1].
    """
    y = torch.arange(height, device=plan.row.device).reshape(1, 1, -1, 1)
    x = torch.arange(width, device=plan.row.device).reshape(1, 1, 1, -1)
    top, left, bottom, right = plan.box.to(torch.int64).reshape(-1, 4, 1, 1, 1).unbind(1)
    inside = (y >= top) & (y < bottom) & (x >= left) & (x < right)
    per_sample = (-1, 1, 1, 1)
    mask = inside == plan.inside_real.reshape(per_sample)
    weight = torch.where(
        plan.pixel.reshape(per_sample), plan.lam.to(torch.float64).reshape(per_sample), mask.to(torch.float64)
    )
    return torch.where((plan.row < 0).reshape(per_sample), 1.0, weight)


def mix_reference(
    images: Tensor,
    counterparts: Tensor,
    plan: MixPlan,
    *,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> Tensor:
    """Mix each image with its counterpart as the plan says, computed in float64 and rounded once.

    Where the weight is 0 or 1 the result is one of the two images, exactly; elsewhere M = λ·I + (1 − λ)·G.

    Args:
        images: [B, C, H, W], uint8 or floating.
        counterparts: [B, C, H, W]. uint8: taken as they are for uint8 images, normalized for floating ones. Floating:
            already in the images' range.
        plan: the plan of the B samples.
        mean: see `normalize_counterparts`; only for uint8 counterparts of floating images.
        std: likewise.

    Returns:
        New images of the same shape, dtype and memory format as `images`, rounded to nearest, ties to even.
    """
    real = images.to(torch.float64)
    if images.is_floating_point() and counterparts.dtype == torch.uint8:
        generated = normalize_counterparts(counterparts, mean, std)
    else:
        generated = counterparts.to(torch.float64)
    weight = real_weight(plan, images.shape[-2], images.shape[-1])
    mixed = torch.where(
        weight == 1, real, torch.where(weight == 0, generated, weight * real + (1 - weight) * generated)
    )
    if not images.is_floating_point():
        mixed = mixed.round()
    return torch.empty_like(images).copy_(mixed)
