"""Bilinear resampling of a crop, antialiased where it shrinks: what the kernels that crop have in common.

Weights are those of torch's antialiased interpolation: a triangle of half-width max(scale, 1) around the output pixel's
centre in the source, cut at the border of the crop and normalized; scale is the side of the crop over that of the
output. Its support holds ⌈2·max(scale, 1)⌉ source pixels at most: 2 × 2 of them where the crop is enlarged.
"""

import triton
import triton.language as tl


@triton.jit
def taps_of(length, OUT: tl.constexpr):
    """How many source pixels at most have a weight for one output pixel, along one axis."""
    return tl.ceil(2.0 * tl.maximum(length.to(tl.float32) / OUT, 1.0)).to(tl.int32)


@triton.jit
def clip_box(top, left, bottom, right, H: tl.constexpr, W: tl.constexpr):
    """(top, left, height, width) of a box clipped to the image and to one pixel: no box reaches other memory."""
    top = tl.minimum(tl.maximum(top, 0), H - 1)
    left = tl.minimum(tl.maximum(left, 0), W - 1)
    height = tl.minimum(tl.maximum(bottom, top + 1), H) - top
    width = tl.minimum(tl.maximum(right, left + 1), W) - left
    return top, left, height, width


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
def resample(
    base, row_step, pixel_step, plane_step, top, left, height, width, y, x, taps_y, taps_x, valid,
    OUT_H: tl.constexpr, OUT_W: tl.constexpr, BLOCK: tl.constexpr, COUNT: tl.constexpr,
):  # fmt: skip
    """The values of COUNT ≤ 4 channels at BLOCK output pixels (y, x), float32 in [0, 255]; unused channels are 0.

    Where the source lies (`base` and the steps) and which part of it is shown (`top` to `width`) may be one for all
    pixels or each pixel's own.
    """
    support_y, center_y, first_y, last_y = _axis(y, height, OUT_H)
    support_x, center_x, first_x, last_x = _axis(x, width, OUT_W)
    v0 = tl.zeros((BLOCK,), tl.float32)
    v1 = tl.zeros((BLOCK,), tl.float32)
    v2 = tl.zeros((BLOCK,), tl.float32)
    v3 = tl.zeros((BLOCK,), tl.float32)
    weights = tl.zeros((BLOCK,), tl.float32)
    ky = 0
    while ky < taps_y:  # not range: before Triton 3.9 the interpreter takes no tensor as its bound
        at_y, weight_y = _tap(ky, support_y, center_y, first_y, last_y)
        line = (top + at_y) * row_step + left * pixel_step
        kx = 0
        while kx < taps_x:
            at_x, weight_x = _tap(kx, support_x, center_x, first_x, last_x)
            weight = weight_y * weight_x
            seen = valid & (weight > 0.0)
            at = base + (line + at_x * pixel_step)
            v0 += weight * tl.load(at, mask=seen, other=0).to(tl.float32)
            if COUNT > 1:
                v1 += weight * tl.load(at + plane_step, mask=seen, other=0).to(tl.float32)
            if COUNT > 2:
                v2 += weight * tl.load(at + 2 * plane_step, mask=seen, other=0).to(tl.float32)
            if COUNT > 3:
                v3 += weight * tl.load(at + 3 * plane_step, mask=seen, other=0).to(tl.float32)
            weights += weight
            kx += 1
        ky += 1
    inverse = 1.0 / tl.where(valid, weights, 1.0)
    return v0 * inverse, v1 * inverse, v2 * inverse, v3 * inverse


@triton.jit
def write_channel(out, offsets, value, norm, channel, valid):
    """Normalize one channel and store it; to bytes it is rounded to nearest, ties to even, and not normalized."""
    if out.dtype.element_ty == tl.uint8:
        # A float32 above 2^23 has no bits for a fraction.
        rounded = (value + 12582912.0) - 12582912.0
        tl.store(out + offsets, rounded.to(tl.int32).to(tl.uint8), mask=valid)
    else:
        scale = tl.load(norm + 4 * channel)
        shift = tl.load(norm + 4 * channel + 2)
        tl.store(out + offsets, (value * scale + shift).to(out.dtype.element_ty), mask=valid)


@triton.jit
def _group(value, BLOCK: tl.constexpr, WIDE: tl.constexpr):
    return tl.reshape(value, (BLOCK // WIDE, WIDE)) if WIDE > 1 else value


@triton.jit
def write_channels(
    out, start, v0, v1, v2, v3, norm, first, SIZE: tl.constexpr, PLANAR: tl.constexpr, C: tl.constexpr,
    BLOCK: tl.constexpr, COUNT: tl.constexpr,
):  # fmt: skip
    """`write_channel` for COUNT ≤ 4 channels, the first of which has number `first`, of BLOCK pixels from `start` on.

    Planes are written as a matrix whose rows are the neighbours that one thread stores at once. A vector of them would
    give the loads of `resample` the same layout, four neighbours a thread, and the weights another: each tap would pass
    through shared memory, and a load of 32 threads would touch four times as many sectors.
    """
    WIDE: tl.constexpr = 4 if PLANAR else 1
    PLANE: tl.constexpr = SIZE if PLANAR else 1
    if PLANAR:
        pixels = start + tl.arange(0, BLOCK // WIDE)[:, None] * WIDE + tl.arange(0, WIDE)[None, :]
        offsets = pixels
    else:
        pixels = start + tl.arange(0, BLOCK)
        offsets = pixels * C
    valid = pixels < SIZE
    write_channel(out, offsets + first * PLANE, _group(v0, BLOCK, WIDE), norm, first, valid)
    if COUNT > 1:
        write_channel(out, offsets + (first + 1) * PLANE, _group(v1, BLOCK, WIDE), norm, first + 1, valid)
    if COUNT > 2:
        write_channel(out, offsets + (first + 2) * PLANE, _group(v2, BLOCK, WIDE), norm, first + 2, valid)
    if COUNT > 3:
        write_channel(out, offsets + (first + 3) * PLANE, _group(v3, BLOCK, WIDE), norm, first + 3, valid)
