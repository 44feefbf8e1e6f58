"""Crop, resize, mirror, normalize and mix on the CPU as functions that numba compiles: a `crop_…` for each dtype.

The dtype is that of the output. Each takes the address of an array of int64 that holds the arguments at the places
named below, and runs on every thread. A line of the output is made in three passes over memory that the cache holds:
the lines of the source that it needs are blended (vertical taps), the pixels of that line are blended four channels at
a time (horizontal taps), and the values are normalized, rounded and written. Where two images are mixed pixel by pixel,
the weights of the vertical taps hold λ and 1 − λ, and the second pass adds both. All in float32, the weights of the
taps in float64 first.

numba keeps the compiled code on disk and compiles anew when this file changes, so everything that is compiled stands
here or is a primitive, which is fixed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import carray, njit, types
from numba.extending import overload, register_jitable

from diffcore_gpu.ops.runtime.numba_lanes import (
    BLOCK,
    LANES,
    bring_together,
    load_pair,
    separate,
    spread,
    store_sum,
    times,
    times_plus,
)
from diffcore_gpu.ops.runtime.numba_primitives import fma, nearest_byte, pointer, take, to_bfloat16, to_float16


class _Places(NamedTuple):
    """Where each argument stands. Addresses are those of contiguous memory."""

    BATCH: int
    CHANNELS: int
    HEIGHT: int  # of the output
    WIDTH: int
    LINES: int  # of an output that are one piece of work
    OUT: int
    OUT_INTERLEAVED: int  # 1: channels_last
    NORM: int  # float32 [C, 4], the first split of `affine_of`
    NEXT: int  # counts the pieces of work that threads have taken; 0 at the start
    NEXT_THREAD: int  # counts the threads that have begun; 0 at the start
    SCRATCH: int  # memory of `layout`'s size for each thread
    IMAGES: int
    IMAGES_INTERLEAVED: int
    IMAGES_HEIGHT: int
    IMAGES_WIDTH: int
    CROP: int  # int32 [B, 4], and so on as in `MixPlan`
    MIRROR: int
    COUNTERPARTS: int  # int64 [B]: the address of each counterpart, planar; 0: the sample is not mixed
    COUNTERPARTS_HEIGHT: int
    COUNTERPARTS_WIDTH: int
    COUNTERPART_CROP: int
    COUNTERPART_MIRROR: int
    PIXEL: int
    LAM: int
    BOX: int
    INSIDE_REAL: int


Argument = _Places(*range(len(_Places._fields)))


class _Layout(NamedTuple):
    """Where the parts of a thread's scratch memory begin, in bytes; those of both images follow each other."""

    columns: int  # int64 [2, w]: bytes in the blended line to the first tap of each output column
    lines: int  # int64 [2, h]: the first tap of each output line, in lines of the crop
    column_weights: int  # float32 [2, w, taps, LANES], each weight repeated
    line_weights: int  # float32 [2, h, taps]
    blended: int  # float32 [2, channels / LANES, columns of the source, LANES]
    planes: int  # float32 [channels, columns of the source or of the output], or the other way round
    shown: int  # float32 [channels / LANES, w, LANES], or [w, channels]
    scale: int  # float32 [w, C]
    shift: int
    size: int


@register_jitable
def layout(height: int, width: int, source_height: int, source_width: int, channels: int) -> _Layout:
    """The scratch memory for an output of that size, from sources of at most that size.

    An axis has at most max(2, 2·source / output + 1) taps for each pixel of the output, as `_num_taps` counts, and with
    the one that makes them even 2·source + 3·output in all.
    """
    lanes = (channels + LANES - 1) // LANES * LANES
    columns = 0
    lines = columns + _whole_lines(16 * width)
    column_weights = lines + _whole_lines(16 * height)
    line_weights = column_weights + _whole_lines(8 * LANES * (2 * source_width + 3 * width))
    blended = line_weights + _whole_lines(8 * (2 * source_height + 3 * height))
    planes = blended + _whole_lines(8 * _blocks(source_width + 1) * lanes)
    shown = planes + _whole_lines(4 * max(_blocks(source_width + 1), _blocks(width)) * lanes)
    scale = shown + _whole_lines(4 * (_blocks(width) + 1) * lanes)
    shift = scale + _whole_lines(4 * width * channels)
    size = shift + _whole_lines(4 * width * channels)
    return _Layout(columns, lines, column_weights, line_weights, blended, planes, shown, scale, shift, size)


@register_jitable
def _blocks(pixels: int) -> int:
    """Pixels, as whole blocks."""
    return (pixels + BLOCK - 1) // BLOCK * BLOCK


@register_jitable
def _whole_lines(size: int) -> int:
    """Bytes, as whole lines of the cache."""
    return (size + 63) // 64 * 64


# --- The taps ---------------------------------------------------------------------------------------------------------


@njit
def _num_taps(length: int, out: int) -> int:
    """Pixels of the source that count for one of the output: those nearer to its centre than max(length / out, 1)."""
    return min(length, max(2, (2 * length + out - 1) // out))


@njit
def _write_taps(
    first: Any, weights: Any, taps: int, repeat: int, unit: int, length: int, out: int, mirror: bool, begin: int,
    end: int,
) -> None:  # fmt: skip
    """First tap, in units, and weights, each repeated, of the output's pixels [begin, end), as in `axis_weights`.

    Taps that are more than the pixels of the source, or lie behind the last, have weight 0.
    """
    scale = length / out
    support = max(scale, 1.0)
    for o in range(begin, end):
        center = scale * ((out - 1 - o if mirror else o) + 0.5)
        start = max(min(int(np.floor(center - support + 0.5)), length - taps), 0)
        first[o - begin] = start * unit
        total = 0.0
        for t in range(min(taps, length - start)):
            total += max(0.0, 1.0 - abs(start + t + 0.5 - center) / support)
        for t in range(taps):
            weight = max(0.0, 1.0 - abs(start + t + 0.5 - center) / support) if start + t < length else 0.0
            for r in range(repeat):
                weights[((o - begin) * taps + t) * repeat + r] = np.float32(weight / total)


class _Source(NamedTuple):
    """One of the two images of a sample, as its crop is read."""

    address: int  # of the crop's first pixel
    line: int  # bytes to the next line
    plane: int  # bytes to the next channel, where channels do not interleave
    interleaved: bool
    share: Any  # float32: what the vertical weights are multiplied with
    width: int
    columns: Any
    column_weights: int  # address
    column_taps: int  # even
    lines: Any
    line_weights: Any
    line_taps: int
    blended: int  # address
    apart: int  # bytes to the next channel that begins a register there, divided by `LANES`


class _Shown(NamedTuple):
    """Where a line of the output is gathered, before it is written."""

    address: int
    step: int  # bytes to the next pixel
    apart: int  # bytes to the next channel that begins a register, divided by `LANES`
    values: Any  # the same memory


@njit
def _floats(address: int, count: int) -> Any:
    return carray(pointer(address), count, np.float32)


@njit
def _address(array: Any) -> Any:
    return np.int64(array.ctypes.data)


@njit
def _bytes(address: int, count: int) -> Any:
    return carray(pointer(address), count, np.uint8)


@njit
def _source(
    image: int, height: int, width: int, interleaved: bool, channels: int, crop: Any, mirror: bool, share: Any,
    scratch: int, parts: Any, which: int, out_height: int, out_width: int, first: int, last: int,
) -> Any:  # fmt: skip
    """The taps of an image (0: real, 1: counterpart) for the output's lines [first, last)."""
    top, left = min(max(crop[0], 0), height - 1), min(max(crop[1], 0), width - 1)
    rows, columns = min(max(crop[2], top + 1), height) - top, min(max(crop[3], left + 1), width) - left
    interleaved = interleaved and channels > 1
    pixel = channels if interleaved else 1
    column_taps, line_taps = (_num_taps(columns, out_width) + 1) // 2 * 2, _num_taps(rows, out_height)
    column_weights = scratch + parts.column_weights + which * ((parts.line_weights - parts.column_weights) // 2)
    line_weights = scratch + parts.line_weights + which * ((parts.blended - parts.line_weights) // 2)
    column = carray(pointer(scratch + parts.columns + which * 8 * out_width), out_width, np.int64)
    line = carray(pointer(scratch + parts.lines + which * 8 * out_height), last - first, np.int64)
    _write_taps(
        column, _floats(column_weights, column_taps * LANES * out_width), column_taps, LANES, 4 * LANES, columns,
        out_width, mirror, 0, out_width,
    )  # fmt: skip
    line_weights_of = _floats(line_weights, line_taps * (last - first))
    _write_taps(line, line_weights_of, line_taps, 1, 1, rows, out_height, False, first, last)
    return _Source(
        image + (top * width + left) * pixel, width * pixel, width * height, interleaved, share, columns, column,
        column_weights, column_taps, line, line_weights_of, line_taps,
        scratch + parts.blended + which * ((parts.planes - parts.blended) // 2), 4 * _blocks(columns + 1),
    )  # fmt: skip


# --- Lines ------------------------------------------------------------------------------------------------------------


@njit
def _blend(target: Any, address: int, line: int, weights: Any, taps: int, share: Any) -> None:
    """The weighted sum of `taps` runs of bytes, each of them `line` bytes behind the one before."""
    a, w = _bytes(address, target.size), weights[0] * share
    if taps == 1:
        for i in range(target.size):
            target[i] = np.float32(a[i]) * w
        return
    b, v = _bytes(address + line, target.size), weights[1] * share
    for i in range(target.size):
        target[i] = fma(np.float32(b[i]), v, np.float32(a[i]) * w)
    for t in range(2, taps):
        c, u = _bytes(address + t * line, target.size), weights[t] * share
        for i in range(target.size):
            target[i] = fma(np.float32(c[i]), u, target[i])


@njit
def _blend_lines(source: Any, planes: Any, channels: int, row: int, first: int, last: int) -> None:
    """Columns [first, last) of the crop, for one line of the output: into `source.blended` from its beginning."""
    count = last - first
    address = source.address + source.lines[row] * source.line
    weights = source.line_weights[row * source.line_taps : (row + 1) * source.line_taps]
    at = _address(planes)
    if source.interleaved:
        target = planes[: count * channels]
        _blend(target, address + first * channels, source.line, weights, source.line_taps, source.share)
        if channels == 3:
            for i in range(0, count, BLOCK):
                spread(at + 12 * i, source.blended + 16 * i)
            return
        for c in range(channels):
            start = source.blended + (c // LANES * LANES) * source.apart
            lanes = _floats(start, count * LANES)
            for i in range(count):
                lanes[LANES * i + c % LANES] = target[channels * i + c]
        return
    plane = _blocks(count)
    for c in range(channels):
        target = planes[c * plane : c * plane + count]
        _blend(target, address + c * source.plane + first, source.line, weights, source.line_taps, source.share)
    for c in range(0, channels, LANES):
        a, b = at + 4 * plane * c, at + 4 * plane * min(c + 1, channels - 1)
        c3, d = at + 4 * plane * min(c + 2, channels - 1), at + 4 * plane * min(c + 3, channels - 1)
        for i in range(0, count, BLOCK):
            bring_together(a + 4 * i, b + 4 * i, c3 + 4 * i, d + 4 * i, source.blended + c * source.apart + 16 * i)


@njit
def _blend_span(source: Any, planes: Any, channels: int, row: int, left: int, right: int) -> Any:
    """What the output's columns [left, right) are made of; returns where column 0 of the crop would lie."""
    one, other = source.columns[left], source.columns[right - 1]
    first = min(one, other) // (4 * LANES)
    last = min(max(one, other) // (4 * LANES) + source.column_taps, source.width)
    _blend_lines(source, planes, channels, row, first, last)
    return source.blended - 4 * LANES * first


@njit(forceinline=True)
def _taps(address: int, weights: int, pairs: int, value: Any) -> Any:
    """Add the taps of a pixel to a value."""
    for t in range(1, pairs):
        value = times_plus(load_pair(address + 8 * LANES * t), load_pair(weights + 8 * LANES * t), value)
    return value


@njit(forceinline=True)
def _blend_columns(target: int, step: int, start: int, columns: Any, weights: int, pairs: int) -> None:
    size = 8 * LANES * pairs
    for x in range(columns.size):
        value = times(load_pair(start + columns[x]), load_pair(weights + size * x))
        store_sum(target + step * x, _taps(start + columns[x], weights + size * x, pairs, value))


@njit
def _show_line(shown: Any, source: Any, planes: Any, channels: int, row: int, left: int, right: int) -> None:
    """Columns [left, right) of a line of the output from one image. The last pixel's lanes may overwrite the next."""
    start, pairs = _blend_span(source, planes, channels, row, left, right), source.column_taps // 2
    columns, weights = source.columns[left:right], source.column_weights + 8 * LANES * pairs * left
    for c in range(0, channels, LANES):
        target, begin = shown.address + shown.step * left + shown.apart * c, start + source.apart * c
        if pairs == 1:
            _blend_columns(target, shown.step, begin, columns, weights, 1)
        elif pairs == 2:
            _blend_columns(target, shown.step, begin, columns, weights, 2)
        else:
            _blend_columns(target, shown.step, begin, columns, weights, pairs)


@njit(forceinline=True)
def _blend_both(
    target: int, step: int, start: int, columns: Any, weights: int, pairs: int, start_other: int, columns_other: Any,
    weights_other: int, pairs_other: int,
) -> None:  # fmt: skip
    size, size_other = 8 * LANES * pairs, 8 * LANES * pairs_other
    for x in range(columns.size):
        value = times(load_pair(start + columns[x]), load_pair(weights + size * x))
        value = _taps(start + columns[x], weights + size * x, pairs, value)
        a, w = start_other + columns_other[x], weights_other + size_other * x
        value = times_plus(load_pair(a), load_pair(w), value)
        store_sum(target + step * x, _taps(a, w, pairs_other, value))


@njit
def _show_mixed_line(shown: Any, one: Any, other: Any, planes: Any, channels: int, row: int, width: int) -> None:
    """A line of the output from both images, whose shares are λ and 1 − λ."""
    start = _blend_span(one, planes, channels, row, 0, width)
    start_other = _blend_span(other, planes, channels, row, 0, width)
    columns, columns_other = one.columns[:width], other.columns[:width]
    pairs, pairs_other = one.column_taps // 2, other.column_taps // 2
    weights, weights_other = one.column_weights, other.column_weights
    for c in range(0, channels, LANES):
        target, a, b = shown.address + shown.apart * c, start + one.apart * c, start_other + other.apart * c
        step = shown.step
        if pairs == 1 and pairs_other == 1:
            _blend_both(target, step, a, columns, weights, 1, b, columns_other, weights_other, 1)
        elif pairs == 1 and pairs_other == 2:
            _blend_both(target, step, a, columns, weights, 1, b, columns_other, weights_other, 2)
        elif pairs == 2 and pairs_other == 1:
            _blend_both(target, step, a, columns, weights, 2, b, columns_other, weights_other, 1)
        elif pairs == 2 and pairs_other == 2:
            _blend_both(target, step, a, columns, weights, 2, b, columns_other, weights_other, 2)
        else:
            _blend_both(target, step, a, columns, weights, pairs, b, columns_other, weights_other, pairs_other)


@njit
def _patch_line(
    shown: Any, inner: Any, outer: Any, planes: Any, channels: int, row: int, left: int, right: int, width: int
) -> None:
    """A line of the output from both images, one of them in columns [left, right)."""
    # From left to right, since the lanes of a pixel may reach into the next.
    if left > 0:
        _show_line(shown, outer, planes, channels, row, 0, left)
    if left < right:
        _show_line(shown, inner, planes, channels, row, left, right)
    if right < width:
        _show_line(shown, outer, planes, channels, row, right, width)


def _rounded(value: Any, like: Any) -> Any:
    """A float32 as a value of the output, of which `like` is one; float16 is uint16 here, and bfloat16 int16."""
    raise NotImplementedError  # stands for the overload that the compiler takes


@overload(_rounded)
def _overload_rounded(value: Any, like: Any) -> Callable[..., Any]:
    def rounded_half(value: Any, like: Any) -> Any:
        return to_float16(value)

    def rounded_bfloat(value: Any, like: Any) -> Any:
        return to_bfloat16(value)

    def rounded_byte(value: Any, like: Any) -> Any:
        return nearest_byte(value)

    def rounded_float(value: Any, like: Any) -> Any:
        return value

    return {types.uint16: rounded_half, types.int16: rounded_bfloat, types.uint8: rounded_byte}.get(like, rounded_float)


@njit
def _write_line(
    out: Any, interleaved: bool, plane: int, y: int, shown: Any, planes: Any, channels: int, scale: Any, shift: Any
) -> None:
    """Normalize a line and write it. `scale` and `shift` hold those of each channel, again and again."""
    width = scale.size // channels
    if interleaved and shown.step == 4 * channels:
        target = out[y * width * channels : (y + 1) * width * channels]
        values = shown.values[: target.size]
        for i in range(target.size):
            target[i] = _rounded(fma(values[i], scale[i], shift[i]), target[0])
    elif not interleaved:
        size = _blocks(width)
        for c in range(0, channels, LANES):
            for i in range(0, width, BLOCK):
                at = shown.address + 4 * LANES * i + shown.apart * c
                separate(at, _address(planes) + 4 * (size * c + i), 4 * size)
        for c in range(channels):
            target = out[c * plane + y * width : c * plane + (y + 1) * width]
            values = planes[c * size : c * size + width]
            a, b = scale[c], shift[c]
            for i in range(width):
                target[i] = _rounded(fma(values[i], a, b), target[0])
    else:
        target, step = out[y * width * channels : (y + 1) * width * channels], shown.step // 4
        for i in range(width):
            for c in range(channels):
                target[i * channels + c] = _rounded(fma(shown.values[i * step + c], scale[c], shift[c]), target[0])


# --- The batch --------------------------------------------------------------------------------------------------------


@njit
def _work(arguments: Any, dtype: Any, normalize: bool) -> None:
    """Take pieces of work until none is left."""
    a = carray(arguments, len(Argument), np.int64)
    batch, channels, height, width = a[Argument.BATCH], a[Argument.CHANNELS], a[Argument.HEIGHT], a[Argument.WIDTH]
    lines = a[Argument.LINES]
    image_height, image_width = a[Argument.IMAGES_HEIGHT], a[Argument.IMAGES_WIDTH]
    other_height, other_width = a[Argument.COUNTERPARTS_HEIGHT], a[Argument.COUNTERPARTS_WIDTH]
    images_interleaved = a[Argument.IMAGES_INTERLEAVED] != 0
    counterparts = carray(pointer(a[Argument.COUNTERPARTS]), batch, np.int64)
    crop = carray(pointer(a[Argument.CROP]), (batch, 4), np.int32)
    mirror = _bytes(a[Argument.MIRROR], batch)
    other_crop = carray(pointer(a[Argument.COUNTERPART_CROP]), (batch, 4), np.int32)
    other_mirror = _bytes(a[Argument.COUNTERPART_MIRROR], batch)
    pixel, inside_real = _bytes(a[Argument.PIXEL], batch), _bytes(a[Argument.INSIDE_REAL], batch)
    lams = _floats(a[Argument.LAM], batch)
    boxes = carray(pointer(a[Argument.BOX]), (batch, 4), np.int32)
    norm = carray(pointer(a[Argument.NORM]), (channels, 4), np.float32)
    plane = height * width
    outs = carray(pointer(a[Argument.OUT]), (batch, channels * plane), dtype)
    interleaved = a[Argument.OUT_INTERLEAVED] != 0 or channels == 1
    if interleaved:  # pixel by pixel; up to four channels without a gap, each store reaching into the next pixel
        step, apart = channels if channels <= LANES else (channels + LANES - 1) // LANES * LANES, 4
    else:  # four channels after four
        step, apart = LANES, 4 * _blocks(width)

    parts = layout(height, width, max(image_height, other_height), max(image_width, other_width), channels)
    counters = _address(a)
    scratch = a[Argument.SCRATCH] + parts.size * take(counters + 8 * Argument.NEXT_THREAD)
    planes = _floats(scratch + parts.planes, (parts.shown - parts.planes) // 4)
    shown = _Shown(
        scratch + parts.shown, 4 * step, apart, _floats(scratch + parts.shown, (parts.scale - parts.shown) // 4)
    )  # fmt: skip
    _floats(scratch + parts.blended, (parts.scale - parts.blended) // 4)[:] = 0  # what has weight 0 is a number
    scale, shift = _floats(scratch + parts.scale, width * channels), _floats(scratch + parts.shift, width * channels)
    for x in range(width):
        for c in range(channels):
            scale[x * channels + c] = norm[c, 0] if normalize else np.float32(1)
            shift[x * channels + c] = norm[c, 2] if normalize else np.float32(0)

    bands = (height + lines - 1) // lines
    while True:
        piece = take(counters + 8 * Argument.NEXT)
        if piece >= batch * bands:
            return
        i, first = piece // bands, piece % bands * lines
        last = min(first + lines, height)
        image = a[Argument.IMAGES] + i * channels * image_height * image_width
        mixed = counterparts[i] != 0
        whole = mixed and pixel[i] != 0
        share, rest = np.float32(1), np.float32(1)
        inner_real = mixed and inside_real[i] != 0
        top, left, bottom, right = 0, 0, 0, 0
        if whole:
            share, rest = lams[i], np.float32(1) - lams[i]
            if share == 1:
                whole = mixed = False
            elif share == 0:  # as a patch that shows the counterpart around an empty box
                whole, inner_real = False, True
        elif mixed:
            top, left = max(boxes[i, 0], 0), max(boxes[i, 1], 0)
            bottom, right = min(boxes[i, 2], height), min(boxes[i, 3], width)
            if top >= bottom or left >= right:
                top, left, bottom, right = 0, 0, 0, 0
        if not whole:
            share, rest = np.float32(1), np.float32(1)
        real = _source(
            image, image_height, image_width, images_interleaved, channels, crop[i], mirror[i] != 0, share, scratch,
            parts, 0, height, width, first, last,
        )  # fmt: skip
        if not mixed:
            for y in range(first, last):
                _show_line(shown, real, planes, channels, y - first, 0, width)
                _write_line(outs[i], interleaved, plane, y, shown, planes, channels, scale, shift)
            continue
        other = _source(
            counterparts[i], other_height, other_width, False, channels, other_crop[i], other_mirror[i] != 0, rest,
            scratch, parts, 1, height, width, first, last,
        )  # fmt: skip
        if whole:
            for y in range(first, last):
                _show_mixed_line(shown, real, other, planes, channels, y - first, width)
                _write_line(outs[i], interleaved, plane, y, shown, planes, channels, scale, shift)
            continue
        for y in range(first, last):
            begin, end = (left, right) if top <= y < bottom else (0, 0)
            if inner_real:
                _patch_line(shown, real, other, planes, channels, y - first, begin, end, width)
            else:
                _patch_line(shown, other, real, planes, channels, y - first, begin, end, width)
            _write_line(outs[i], interleaved, plane, y, shown, planes, channels, scale, shift)


def crop_float(arguments: Any) -> None:
    """Write float32; called by every thread."""
    _work(arguments, np.float32, True)


def crop_half(arguments: Any) -> None:
    """Write float16; called by every thread."""
    _work(arguments, np.uint16, True)


def crop_bfloat(arguments: Any) -> None:
    """Write bfloat16; called by every thread."""
    _work(arguments, np.int16, True)


def crop_byte(arguments: Any) -> None:
    """Write uint8; called by every thread."""
    _work(arguments, np.uint8, False)
