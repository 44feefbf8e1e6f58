"""Crop, resize (bilinear, antialiased where it shrinks), mirror and normalize every image of a batch, in one launch.

Bytes that must move per output value of b bytes: b written, and about scale_y·scale_x bytes of the uint8 source read,
where scale is the side of the crop over that of the output. Taps are single bytes by nature, and it is the number of
instructions that counts: a program of one warp goes down ROWS rows of a chunk of columns of one sample, with all
channels, so that what belongs to a column is worked out once, and each line of the source is resampled along x once.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from .mix import is_planar
from .plan import read_box
from .resample import (
    LANES,
    affine_for,
    clip_box,
    first_line,
    pixels_of,
    reciprocals_of,
    resample_row,
    sum_of,
    taps_along,
    write_row,
    zeros_for,
)
from .specialization import batch_kernel

CROP_ROWS = 16
CROP_WIDE = 4
CROP_WARPS = 1


@triton.jit
def _write_rows(
    crop, out, norm, height, width, taps, first, a, b, begin, end, chunk, channel,
    C: tl.constexpr, ROW: tl.constexpr, STEP: tl.constexpr, PLANE: tl.constexpr, OUT_H: tl.constexpr,
    OUT_W: tl.constexpr, PLANAR_OUT: tl.constexpr, COUNT: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Write COUNT channels of rows `begin` to `end` of a chunk."""
    state = (first_line(begin, height, OUT_H), zeros_for(first, COUNT), zeros_for(first, COUNT), 0.0, 0.0)
    reciprocals = reciprocals_of(height, width, OUT_W)
    affine = affine_for(norm, channel, COUNT)
    y = begin
    while y < end:
        state, weight, following_weight = resample_row(
            state, crop, y, height, reciprocals, taps, first, a, b, OUT_H, OUT_W, ROW, STEP, PLANE, COUNT
        )
        values = sum_of(weight, state[1], following_weight, state[2], COUNT)
        write_row(out, y, chunk, values, affine, channel, OUT_H, OUT_W, C, PLANAR_OUT, COUNT, WIDE)
        y += 1


@batch_kernel
def resized_crop_kernel(
    images, out, crop, mirror, norm,
    C: tl.constexpr, H: tl.constexpr, W: tl.constexpr, OUT_H: tl.constexpr, OUT_W: tl.constexpr,
    ROWS: tl.constexpr, WIDE: tl.constexpr, PLANAR_IN: tl.constexpr, PLANAR_OUT: tl.constexpr,
):  # fmt: skip
    """ROWS rows of a chunk of one output image; grid: samples × groups of rows × chunks of a row."""
    CHUNKS: tl.constexpr = (OUT_W + LANES * WIDE - 1) // (LANES * WIDE)
    PROGRAMS: tl.constexpr = (OUT_H + ROWS - 1) // ROWS * CHUNKS
    STEP: tl.constexpr = 1 if PLANAR_IN else C
    PLANE: tl.constexpr = H * W if PLANAR_IN else 1
    sample = tl.program_id(0) // PROGRAMS
    program = tl.program_id(0) % PROGRAMS
    chunk = program % CHUNKS
    begin = program // CHUNKS * ROWS
    end = tl.minimum(begin + ROWS, OUT_H)
    box_top, box_left, box_bottom, box_right = read_box(crop, sample)
    top, left, height, width = clip_box(box_top, box_left, box_bottom, box_right, H, W)
    x = pixels_of(chunk, OUT_W, WIDE)
    x = tl.where(tl.load(mirror + sample).to(tl.int32) > 0, OUT_W - 1 - x, x)
    taps, first, a, b = taps_along(x, width, OUT_W)
    out += sample.to(tl.int64) * (C * OUT_H * OUT_W)
    images += sample.to(tl.int64) * (C * H * W) + (top * W + left) * STEP
    for channel in tl.static_range(0, C, 4):
        _write_rows(
            images + channel * PLANE, out, norm, height, width, taps, first, a, b, begin, end, chunk, channel,
            C, W * STEP, STEP, PLANE, OUT_H, OUT_W, PLANAR_OUT, min(4, C - channel), WIDE,
        )  # fmt: skip


def launch_resized_crop(images: Tensor, out: Tensor, crop: Tensor, mirror: Tensor, norm: Tensor) -> None:
    """Write the resized crops, in one launch on the current stream.

    Values lie within a few units in the last place of float32, at 255, of the exact ones, before they are normalized
    (in float32, one rounding) and rounded to the type of the output, bytes to nearest, ties to even.

    Args:
        images: uint8 [B, C, H, W], contiguous or channels_last.
        out: [B, C, h, w] uint8 or floating, contiguous or channels_last.
        crop: int32 [B, 4] (top, left, bottom, right) in source pixels, half-open; clipped to the image.
        mirror: bool [B].
        norm: float32 [2, C, 4] of `affine_of`; its first scale and shift are used.
    """
    batch, channels, height, width = images.shape
    out_height, out_width = out.shape[-2:]
    programs = triton.cdiv(out_height, CROP_ROWS) * triton.cdiv(out_width, LANES.value * CROP_WIDE)
    resized_crop_kernel[(batch * programs,)](
        images, out, crop, mirror, norm, C=channels, H=height, W=width, OUT_H=out_height, OUT_W=out_width,
        ROWS=CROP_ROWS, WIDE=CROP_WIDE, PLANAR_IN=is_planar(images), PLANAR_OUT=is_planar(out, "out"),
        num_warps=CROP_WARPS, enable_fp_fusion=False,
    )  # fmt: skip
