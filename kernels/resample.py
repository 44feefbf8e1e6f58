"""Bilinear resampling of a crop, antialiased where it shrinks: what the kernels that crop have in common.

Weights are those of torch's antialiased interpolation: a triangle of half-width max(scale, 1) around the output pixel's
centre in the source, cut at the border of the crop and normalized; scale is the side of the crop over that of the
output. Distances are ratios of integers, so which pixels have a weight is exact, and a weight is wrong by float32's
rounding alone.

Along a row, an axis that is enlarged has two taps, whose weights are 1 − f and f; one that shrinks has a loop of
⌈2·scale⌉. Down the rows, each line of the source is resampled along x once and kept in registers, because two vectors
per channel are all that lives: where the rows are enlarged, the two lines around the output row; where they shrink, the
sums of this output row and of the next, since triangles of half-width scale, scale apart, cover a line twice at most.

A warp holds a chunk of 32·WIDE pixels of one output row, `pixels_of` says which: WIDE neighbours, 2 or 4, for each
thread, which it stores at once, though the compiler sees a vector of which each thread holds every 32nd element. So all
of a row's addresses and weights are numbers, and no value passes through shared memory.
"""

from __future__ import annotations

import triton
import triton.language as tl

LANES = tl.constexpr(32)


@triton.jit
def clip_box(top, left, bottom, right, H: tl.constexpr, W: tl.constexpr):
    """(top, left, height, width) of a box clipped to the image and to one pixel: no box reaches other memory."""
    top = tl.minimum(tl.maximum(top, 0), H - 1)
    left = tl.minimum(tl.maximum(left, 0), W - 1)
    height = tl.minimum(tl.maximum(bottom, top + 1), H) - top
    width = tl.minimum(tl.maximum(right, left + 1), W) - left
    return top, left, height, width


@triton.jit
def pixels_of(chunk, OUT_W: tl.constexpr, WIDE: tl.constexpr):
    """The columns of a chunk of a row, int32 [32·WIDE]; past the end of the row it is the last one again."""
    element = tl.arange(0, LANES * WIDE)
    return tl.minimum((chunk * LANES + element % LANES) * WIDE + element // LANES, OUT_W - 1)


@triton.jit
def zeros_for(x, COUNT: tl.constexpr):
    """Vectors of zeros for COUNT channels of pixels `x`."""
    values = ()
    for _ in tl.static_range(COUNT):
        values += (tl.zeros(x.shape, tl.float32),)
    return values


@triton.jit
def add_weighted(weight, values, sums, COUNT: tl.constexpr):
    """weight · values + sums, one rounding each."""
    result = ()
    for c in tl.static_range(COUNT):
        result += (tl.fma(weight, values[c], sums[c]),)
    return result


@triton.jit
def _weigh(weight, values, COUNT: tl.constexpr):
    result = ()
    for c in tl.static_range(COUNT):
        result += (weight * values[c],)
    return result


@triton.jit
def _triangle(distance, reciprocal):
    return tl.maximum(tl.fma(-tl.abs(distance), reciprocal, 1.0), 0.0)


@triton.jit
def taps_along(x, width, OUT: tl.constexpr):
    """What `resample_row` must know of the columns `x` of a crop of that width, once for all rows and channels.

    Returns:
        taps (how many; 0: two with weights 1 − f and f), and for each pixel the first of them (int32) and two float32:
        f and 0, or the first tap's distance from the centre in units of 1 / (2·OUT) and the reciprocal of the sum of
        the weights.
    """
    position = 2 * x + 1
    if (width <= OUT) & (width > 1):
        at = tl.maximum(position * width - OUT, 0)
        # At the right border both taps stay inside, and the second has all of the weight.
        first = tl.minimum(at // (2 * OUT), width - 2)
        rest = at - first * (2 * OUT)
        a = tl.where(rest < 2 * OUT, rest.to(tl.float32) * (1.0 / (2 * OUT)), 1.0)
        b = tl.zeros(x.shape, tl.float32)
        taps = tl.full((), 0, tl.int32)
    else:
        half = tl.maximum(width, OUT)
        taps = tl.minimum((2 * half + OUT - 1) // OUT, width)
        first = tl.maximum(position * width - 2 * half + OUT, 0) // (2 * OUT)
        # The last window ends with the crop; taps before the triangle have no weight.
        first = tl.minimum(first, width - taps)
        a = ((2 * first + 1) * OUT - position * width).to(tl.float32)
        reciprocal = 0.5 / half.to(tl.float32)
        total = tl.zeros(x.shape, tl.float32)
        distance = a
        tap = tl.full((), 0, tl.int32)
        while tap < taps:  # not range: before Triton 3.9 the interpreter takes no tensor as its bound
            total += _triangle(distance, reciprocal)
            distance += 2 * OUT
            tap += 1
        b = 1.0 / total
    return taps, first, a, b


@triton.jit
def reciprocals_of(height, width, OUT_W: tl.constexpr):
    """(1 / (2·height), 1 / (2·width)) of a crop, the width of OUT_W at least, once for all rows."""
    return 0.5 / height.to(tl.float32), 0.5 / tl.maximum(width, OUT_W).to(tl.float32)


@triton.jit
def resample_line(
    line, taps, first, a, b, reciprocal, OUT: tl.constexpr, STEP: tl.constexpr, PLANE: tl.constexpr, COUNT: tl.constexpr
):
    """One line of the source resampled along x: COUNT vectors of float32 in [0, 255]."""
    at = line + first * STEP
    if taps == 0:
        values = ()
        for c in tl.static_range(COUNT):
            v = tl.load(at + c * PLANE).to(tl.float32)
            values += (tl.fma(a, tl.load(at + (c * PLANE + STEP)).to(tl.float32) - v, v),)
    else:
        slope = b * reciprocal
        distance = a
        values = zeros_for(first, COUNT)
        tap = tl.full((), 0, tl.int32)
        while tap < taps:
            weight = tl.maximum(tl.fma(-tl.abs(distance), slope, b), 0.0)
            sums = ()
            for c in tl.static_range(COUNT):
                sums += (tl.fma(weight, tl.load(at + c * PLANE).to(tl.float32), values[c]),)
            values = sums
            at += STEP
            distance += 2 * OUT
            tap += 1
    return values


@triton.jit
def first_line(y, height, OUT: tl.constexpr):
    """The first line of a crop of that height that has a weight in output row `y`."""
    if height <= OUT:
        line = tl.maximum((2 * y + 1) * height - OUT, 0) // (2 * OUT)
    else:
        line = tl.maximum((2 * y - 1) * height + OUT, 0) // (2 * OUT)
    return line


@triton.jit
def resample_row(
    state, crop, y, height, reciprocals, taps, first, a, b,
    OUT_H: tl.constexpr, OUT_W: tl.constexpr, ROW: tl.constexpr, STEP: tl.constexpr, PLANE: tl.constexpr,
    COUNT: tl.constexpr,
):  # fmt: skip
    """Go on to output row `y`, the first or the one below the last.

    Args:
        state: (next line of the source, COUNT vectors, COUNT vectors, weight of the former, weight of the latter); to
            begin, (`first_line`, `zeros_for`, `zeros_for`, 0, 0).
        crop: pointer to the first pixel of the crop in the first of COUNT planes.
        y: int32.
        height: of the crop.
        reciprocals: `reciprocals_of` the crop.
        taps: with the following three, from `taps_along`.
        ROW: bytes from line to line, STEP from pixel to pixel, PLANE from channel to channel.

    Returns:
        the new state, and two weights: the row is the sum of the state's vectors with these.
    """
    line, current, following, current_sum, following_sum = state
    shrinks = height > OUT_H
    at = tl.maximum((2 * y + 1) * height - OUT_H, 0)
    last = at // (2 * OUT_H)
    end = last + 2
    if shrinks:
        end = tl.minimum(((2 * y + 3) * height + OUT_H - 1) // (2 * OUT_H), height)
        current = following
        current_sum = following_sum
        following = zeros_for(first, COUNT)
        following_sum = 0.0
    while line < end:
        values = resample_line(
            crop + tl.minimum(line, height - 1) * ROW, taps, first, a, b, reciprocals[1], OUT_W, STEP, PLANE, COUNT
        )
        if shrinks:
            distance = ((2 * line + 1) * OUT_H - (2 * y + 1) * height).to(tl.float32)
            weight = _triangle(distance, reciprocals[0])
            current = add_weighted(weight, values, current, COUNT)
            current_sum += weight
            weight = _triangle(distance - 2.0 * height.to(tl.float32), reciprocals[0])
            following = add_weighted(weight, values, following, COUNT)
            following_sum += weight
        else:
            current = following
            following = values
        line += 1
    if shrinks:
        weight_current = 1.0 / current_sum
        weight_following = 0.0
    else:
        weight_following = (at - last * (2 * OUT_H)).to(tl.float32) * (1.0 / (2 * OUT_H))
        weight_current = 1.0 - weight_following
    return (line, current, following, current_sum, following_sum), weight_current, weight_following


@triton.jit
def sum_of(weight, values, other_weight, others, COUNT: tl.constexpr):
    """weight · values + other_weight · others, for COUNT vectors each."""
    return add_weighted(other_weight, others, _weigh(weight, values, COUNT), COUNT)


@triton.jit
def affine_for(norm, first, COUNT: tl.constexpr):
    """(scale, shift) of COUNT channels, number `first` the first, for `write_row`."""
    pairs = ()
    for c in tl.static_range(COUNT):
        pairs += ((tl.load(norm + 4 * (first + c)), tl.load(norm + (4 * (first + c) + 2))),)
    return pairs


@triton.jit
def _normalize(value, affine, BYTES: tl.constexpr):
    """One channel as it is written but for the last rounding; bytes are rounded already, and not normalized."""
    # Above 2^23 a float32 has no bits for a fraction: the last 8 of these hold the byte, rounded to even.
    return (value + 12582912.0).to(tl.int32, bitcast=True) if BYTES else tl.fma(value, affine[0], affine[1])


@triton.jit
def _neighbours(value):
    """[32·WIDE] as [32, WIDE]: the neighbouring pixels of one thread in a row of their own."""
    return tl.permute(tl.reshape(value, (value.shape[0] // LANES, LANES)), (1, 0))


@triton.jit
def _apart(value):
    """The 2 or 4 neighbours of each thread as so many vectors."""
    if value.shape[0] == 2 * LANES:
        zero, one = tl.split(_neighbours(value))
        vectors = (zero, one)
    else:
        even, odd = tl.split(tl.reshape(_neighbours(value), (LANES, 2, 2)))
        zero, two = tl.split(even)
        one, three = tl.split(odd)
        vectors = (zero, one, two, three)
    return vectors


@triton.jit
def _interleaved(pixels, AT: tl.constexpr, C: tl.constexpr, WIDE: tl.constexpr):
    """Values AT to AT + WIDE − 1 of the C channels of WIDE neighbours, which `pixels` holds as [channel][neighbour]."""
    if WIDE == 2:
        values = tl.join(pixels[AT % C][AT // C], pixels[(AT + 1) % C][(AT + 1) // C])
    else:
        even = tl.join(pixels[AT % C][AT // C], pixels[(AT + 2) % C][(AT + 2) // C])
        odd = tl.join(pixels[(AT + 1) % C][(AT + 1) // C], pixels[(AT + 3) % C][(AT + 3) // C])
        values = tl.reshape(tl.join(even, odd), (LANES, 4))
    return values


@triton.jit
def write_row(
    out, y, chunk, values, affine, first, OUT_H: tl.constexpr, OUT_W: tl.constexpr, C: tl.constexpr,
    PLANAR: tl.constexpr, COUNT: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Normalize and store COUNT channels, number `first` the first, of a chunk of row `y` of the sample at `out`.

    Bytes are rounded to nearest, ties to even. Neighbours are stored at once, and where channels interleave all
    channels of them, WIDE values at a time, if they fit in whole: where C ≤ 4 and a row is a multiple of WIDE.
    """
    BYTES: tl.constexpr = out.dtype.element_ty == tl.uint8
    EVEN: tl.constexpr = OUT_W % WIDE == 0
    normalized = ()
    for c in tl.static_range(COUNT):
        normalized += (_normalize(values[c], affine[c], BYTES),)
    neighbour = tl.arange(0, WIDE)[None, :]
    x = (chunk * LANES + tl.arange(0, LANES)[:, None]) * WIDE
    valid = x + (0 if EVEN else neighbour) < OUT_W
    if PLANAR:
        out += first * (OUT_H * OUT_W) + y * OUT_W
        for c in tl.static_range(COUNT):
            at = out + (c * (OUT_H * OUT_W) + x + neighbour)
            tl.store(at, _neighbours(normalized[c]).to(out.dtype.element_ty), mask=valid)
    elif COUNT == C and EVEN:
        pixels = ()
        for c in tl.static_range(COUNT):
            pixels += (_apart(normalized[c]),)
        out += y * (OUT_W * C)
        for part in tl.static_range(COUNT):
            at = out + (x * C + (part * WIDE + neighbour))
            tl.store(at, _interleaved(pixels, part * WIDE, C, WIDE).to(out.dtype.element_ty), mask=valid)
    else:
        out += y * (OUT_W * C) + first
        for c in tl.static_range(COUNT):
            at = out + ((x + neighbour) * C + c)
            tl.store(at, _neighbours(normalized[c]).to(out.dtype.element_ty), mask=valid)
