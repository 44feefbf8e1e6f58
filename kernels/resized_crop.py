"""Crop, resize (bilinear, antialiased where it shrinks), mirror and normalize every image of a batch, in one launch.

Bytes that must move per output value of b bytes: b written, and about scale_y·scale_x bytes of the uint8 source read,
where scale is the side of the crop over that of the output. Neighbouring outputs share their taps, which therefore come
from the first-level cache; a program takes BLOCK neighbouring pixels of one sample with all their channels, so that the
weights of a tap are worked out once for all channels.

Weights are those of torch's antialiased interpolation: a triangle of half-width max(scale, 1) around the output pixel's
centre in the source, cut at the border of the crop and normalized.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

CROP_BLOCK = 256
CROP_WARPS = 4


@triton.jit
def _axis(position, length, OUT: tl.constexpr):
    """Along one axis: the triangle's half-width, its centre, and the first and past-last source pixel below it."""
    scale = length.to(tl.float32) / OUT
    support = tl.maximum(scale, 1.0)
    center = scale * (position.to(tl.float32) + 0.5)
    first = tl.maximum((center - support + 0.5).to(tl.int32), 0)
    last = tl.minimum((center + support + 0.5).to(tl.int32), length)
    return support, center, first, last


@triton.jit
def _tap(k, support, center, first, last):
    """Source pixel number k of each output pixel, and its weight, not normalized; 0 beyond the last."""
    at = first + k
    distance = tl.abs(at.to(tl.float32) - center + 0.5) / support
    return at, tl.where(at < last, tl.maximum(1.0 - distance, 0.0), 0.0)


@triton.jit
def resized_crop_kernel(
    images, out, crop, mirror, norm,
    C: tl.constexpr, H: tl.constexpr, W: tl.constexpr, OUT_H: tl.constexpr, OUT_W: tl.constexpr, BLOCK: tl.constexpr,
    PADDED_C: tl.constexpr, PLANAR_IN: tl.constexpr, PLANAR_OUT: tl.constexpr,
):  # fmt: skip
    """One tile of one output image; grid: samples × tiles of an output."""
    TILES: tl.constexpr = (OUT_H * OUT_W + BLOCK - 1) // BLOCK
    IN_STEP: tl.constexpr = 1 if PLANAR_IN else C
    IN_PLANE: tl.constexpr = H * W if PLANAR_IN else 1
    OUT_STEP: tl.constexpr = 1 if PLANAR_OUT else C
    OUT_PLANE: tl.constexpr = OUT_H * OUT_W if PLANAR_OUT else 1
    sample = tl.program_id(0) // TILES
    offsets = tl.program_id(0) % TILES * BLOCK + tl.arange(0, BLOCK)
    valid = offsets < OUT_H * OUT_W
    # Boxes are clipped, so that no box can reach memory outside the image.
    top = tl.minimum(tl.maximum(tl.load(crop + 4 * sample), 0), H - 1)
    left = tl.minimum(tl.maximum(tl.load(crop + 4 * sample + 1), 0), W - 1)
    height = tl.minimum(tl.maximum(tl.load(crop + 4 * sample + 2), top + 1), H) - top
    width = tl.minimum(tl.maximum(tl.load(crop + 4 * sample + 3), left + 1), W) - left
    mirrored = tl.load(mirror + sample).to(tl.int32)

    y = offsets // OUT_W
    x = offsets - y * OUT_W
    x = tl.where(mirrored > 0, OUT_W - 1 - x, x)
    support_y, center_y, first_y, last_y = _axis(y, height, OUT_H)
    support_x, center_x, first_x, last_x = _axis(x, width, OUT_W)
    images += sample.to(tl.int64) * (C * H * W)
    out += sample.to(tl.int64) * (C * OUT_H * OUT_W)
    taps_y = (2 * support_y + 2).to(tl.int32)
    taps_x = (2 * support_x + 2).to(tl.int32)
    # A tile is pixels × channels, with the channels padded to a power of two.
    channel = tl.arange(0, PADDED_C)[None, :]
    written = valid[:, None] & (channel < C)
    total = tl.zeros((BLOCK, PADDED_C), tl.float32)
    weights = tl.zeros((BLOCK,), tl.float32)
    ky = 0
    while ky < taps_y:  # not range: before Triton 3.9 the interpreter takes no tensor as its bound
        at_y, weight_y = _tap(ky, support_y, center_y, first_y, last_y)
        kx = 0
        while kx < taps_x:
            at_x, weight_x = _tap(kx, support_x, center_x, first_x, last_x)
            weight = weight_y * weight_x
            at = ((top + at_y) * W + left + at_x)[:, None] * IN_STEP + channel * IN_PLANE
            value = tl.load(images + at, mask=written & (weight > 0.0)[:, None], other=0)
            total += weight[:, None] * value.to(tl.float32)
            weights += weight
            kx += 1
        ky += 1
    value = total / tl.where(valid, weights, 1.0)[:, None]
    at = channel * OUT_PLANE + offsets[:, None] * OUT_STEP
    if out.dtype.element_ty == tl.uint8:
        # Rounded to nearest, ties to even: a float32 above 2^23 has no bits for a fraction.
        rounded = (value + 12582912.0) - 12582912.0
        tl.store(out + at, rounded.to(tl.int32).to(tl.uint8), mask=written)
    else:
        scale = tl.load(norm + 4 * channel, mask=channel < C, other=0.0)
        shift = tl.load(norm + 4 * channel + 2, mask=channel < C, other=0.0)
        tl.store(out + at, (value * scale + shift).to(out.dtype.element_ty), mask=written)


def launch_resized_crop(images: Tensor, out: Tensor, crop: Tensor, mirror: Tensor, norm: Tensor) -> None:
    """Write the resized crops, in one launch on the current stream.

    Args:
        images: uint8 [B, C, H, W], contiguous or channels_last.
        out: [B, C, h, w] uint8 or floating, contiguous or channels_last.
        crop: int32 [B, 4] (top, left, bottom, right) in source pixels, half-open; clipped to the image.
        mirror: bool [B].
        norm: float32 [2, C, 4] of `affine_of`; its first scale and shift are used.
    """
    batch, channels, height, width = images.shape
    out_height, out_width = out.shape[-2:]
    planar: Sequence[bool] = [tensor.is_contiguous() for tensor in (images, out)]
    for tensor, is_planar in zip((images, out), planar, strict=True):
        if not is_planar and not tensor.is_contiguous(memory_format=torch.channels_last):
            raise ValueError(f"images must be contiguous or channels_last, got strides {tensor.stride()}.")
    resized_crop_kernel[(batch * triton.cdiv(out_height * out_width, CROP_BLOCK),)](
        images, out, crop, mirror, norm, C=channels, H=height, W=width, OUT_H=out_height, OUT_W=out_width,
        BLOCK=CROP_BLOCK, PADDED_C=triton.next_power_of_2(channels), PLANAR_IN=planar[0], PLANAR_OUT=planar[1],
        num_warps=CROP_WARPS, enable_fp_fusion=False,
    )  # fmt: skip
