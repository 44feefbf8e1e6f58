"""Crop and mix in plain torch: the ground truth of `crop_mix`, written to be read."""

from __future__ import annotations

from torch import Tensor

from diffcore_gpu.ops.mix.reference import normalize_counterparts, real_weight
from diffcore_gpu.ops.resized_crop.reference import resized_crop_reference
from diffcore_gpu.plan import MixPlan


def crop_mix_reference(
    images: Tensor,
    counterparts: Tensor,
    plan: MixPlan,
    size: tuple[int, int],
    *,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> Tensor:
    """`crop_mix` in plain torch and float64: both images resized, then eqs. 6–8, then normalized.

    Args:
        images: uint8 [B, C, H, W].
        counterparts: uint8 [B, C, H', W'], one for each image.
        plan: the plan of the B samples, with crops.
        size: (h, w) of the output in pixels.
        mean: see `normalize_counterparts`.
        std: likewise.

    Returns:
        float64 [B, C, h, w], normalized; not rounded to any other type.
    """
    assert plan.crop is not None
    assert plan.counterpart_crop is not None
    real = resized_crop_reference(images, plan.crop, size, mirror=plan.mirror)
    generated = resized_crop_reference(counterparts, plan.counterpart_crop, size, mirror=plan.counterpart_mirror)
    weight = real_weight(plan, *size)
    mixed = weight * real + (1 - weight) * generated
    return normalize_counterparts(mixed * 255, mean, std)
