"""Crop, resize (bilinear, antialiased where it shrinks), mirror and normalize every image of a batch, in one launch.

Bytes that must move per output value of b bytes: b written, and about scale_y·scale_x bytes of the uint8 source read,
where scale is the side of the crop over that of the output. Neighbouring outputs share their taps, which therefore come
from the first-level cache; a program takes BLOCK neighbouring pixels of one sample with all their channels, so that the
weights of a tap are worked out once for all channels.
"""

import triton
import triton.language as tl
from torch import Tensor

from .mix import is_planar
from .plan import read_box
from .resample import clip_box, resample, taps_of, write_channels
from .specialization import batch_kernel

CROP_BLOCK = 512
CROP_WARPS = 4


@batch_kernel
def resized_crop_kernel(
    images, out, crop, mirror, norm,
    C: tl.constexpr, H: tl.constexpr, W: tl.constexpr, OUT_H: tl.constexpr, OUT_W: tl.constexpr, BLOCK: tl.constexpr,
    PLANAR_IN: tl.constexpr, PLANAR_OUT: tl.constexpr,
):  # fmt: skip
    """One tile of one output image; grid: samples × tiles of an output."""
    TILES: tl.constexpr = (OUT_H * OUT_W + BLOCK - 1) // BLOCK
    IN_STEP: tl.constexpr = 1 if PLANAR_IN else C
    IN_PLANE: tl.constexpr = H * W if PLANAR_IN else 1
    sample = tl.program_id(0) // TILES
    start = tl.program_id(0) % TILES * BLOCK
    offsets = start + tl.arange(0, BLOCK)
    valid = offsets < OUT_H * OUT_W
    box_top, box_left, box_bottom, box_right = read_box(crop, sample)
    top, left, height, width = clip_box(box_top, box_left, box_bottom, box_right, H, W)
    mirrored = tl.load(mirror + sample).to(tl.int32)
    y = offsets // OUT_W
    x = offsets - y * OUT_W
    x = tl.where(mirrored > 0, OUT_W - 1 - x, x)
    images += sample.to(tl.int64) * (C * H * W)
    out += sample.to(tl.int64) * (C * OUT_H * OUT_W)
    for first in tl.static_range(0, C, 4):
        v0, v1, v2, v3 = resample(
            images + first * IN_PLANE, W * IN_STEP, IN_STEP, IN_PLANE, top, left, height, width, y, x,
            taps_of(height, OUT_H), taps_of(width, OUT_W), valid, OUT_H, OUT_W, BLOCK, min(4, C - first),
        )  # fmt: skip
        write_channels(
            out, start, v0, v1, v2, v3, norm, first, OUT_H * OUT_W, PLANAR_OUT, C, BLOCK, min(4, C - first)
        )  # fmt: skip


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
    resized_crop_kernel[(batch * triton.cdiv(out_height * out_width, CROP_BLOCK),)](
        images, out, crop, mirror, norm, C=channels, H=height, W=width, OUT_H=out_height, OUT_W=out_width,
        BLOCK=CROP_BLOCK, PLANAR_IN=is_planar(images), PLANAR_OUT=is_planar(out, "out"),
        num_warps=CROP_WARPS, enable_fp_fusion=False,
    )  # fmt: skip
