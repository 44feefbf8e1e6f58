"""Draw and mix on the CPU as functions that numba compiles: `draw` for the batch, a `mix_…` for each of its threads.

All take the address of an array of int64 that holds the arguments at the places named below; memory is passed as
addresses too, so a call costs no more than one in C. They compute `diffcore_gpu.plan.draw`, bit for bit, and eqs. 6–8
in float64, rounded to the type of the images. numba keeps the compiled code on disk and compiles anew when this file
changes, so everything that is compiled stands here; what comes from other files is fixed: it defines the stream of
random numbers, or is a primitive.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import carray, njit, types
from numba.extending import overload

from diffcore_gpu.kernels.spec import (
    GRID_BITS,
    PHILOX_KEY_STEPS,
    PHILOX_MULTIPLIERS,
    PHILOX_ROUNDS,
    SAMPLE_MASK,
    STREAM_BOX,
    STREAM_CHOICE,
    TABLE_BITS,
)
from diffcore_gpu.ops.runtime.numba_primitives import (
    from_bfloat16,
    from_float16,
    pointer,
    take,
    to_bfloat16,
    to_float16,
)
from diffcore_gpu.plan.beta import GRID
from diffcore_gpu.plan.philox import MASK


class _Places(NamedTuple):
    """Where each argument stands. Addresses are those of contiguous memory; 0: there is none."""

    # What is new in every call:
    ROW: int  # int64 [B], and so on as in `MixPlan`: `draw` writes the plan, the mix reads it
    PIXEL: int
    LAM: int
    BOX: int
    INSIDE_REAL: int
    BATCH: int
    INTERLEAVED: int  # 1: channels_last
    LINES: int  # of an image that are one piece of work
    IMAGES: int
    OUT: int
    INDEX: int  # int64 [B]
    LABELS: int  # int64 [B]
    ROUND: int  # int64, one element
    ADVANCE: int  # 1: `draw` adds one to the round
    SEED: int
    NEXT: int  # counts the pieces of work that threads have taken; 0 at the start
    REFUSED: int  # 0; `draw` makes it 1 where an index or a label does not fit the store, and keeps the round
    # What is the same for every batch:
    CHANNELS: int
    HEIGHT: int
    WIDTH: int
    NORM: int  # float32 [C, 4], the first split of `affine_of`
    PAIR_PTR: int
    NUM_SAMPLES: int
    PAIR_ROW: int
    NUM_PAIRS: int
    NUM_ROWS: int
    ROW_LABEL: int
    LAM_TABLE: int
    MIXED_BELOW: int  # the nine of `DrawParameters`, in its order
    PIXEL_BELOW: int
    REAL_PATCH_BELOW: int
    LAM_LOW: int
    LAM_SPAN: int
    AREA_LOW: int
    AREA_SPAN: int
    BOX_INSIDE: int
    BEST_ROW: int
    NUM_SHARDS: int


Argument = _Places(*range(len(_Places._fields)))

_SHARDS = len(Argument)
"""After all others: for each shard its address and the row that it begins with."""

_NEXT_OFFSET = 8 * Argument.NEXT


# --- The plan ---------------------------------------------------------------------------------------------------------


@njit
def philox(index: int, round: int, stream: int, key: int) -> tuple[int, int, int, int]:
    """`diffcore_gpu.plan.philox.philox4x32` of one counter."""
    c0, c1, c2, c3 = index & MASK, (index >> 32) & MASK, round & MASK, stream
    k0, k1 = key & MASK, (key >> 32) & MASK
    for _ in range(PHILOX_ROUNDS):
        product0, product1 = c0 * PHILOX_MULTIPLIERS[0], c2 * PHILOX_MULTIPLIERS[1]  # modulo 2⁶⁴, which keeps all bits
        c0, c1 = ((product1 >> 32) & MASK) ^ c1 ^ k0, product1 & MASK
        c2, c3 = ((product0 >> 32) & MASK) ^ c3 ^ k1, product0 & MASK
        k0, k1 = (k0 + PHILOX_KEY_STEPS[0]) & MASK, (k1 + PHILOX_KEY_STEPS[1]) & MASK
    return c0, c1, c2, c3


@njit
def bernoulli(word: int, threshold: int) -> bool:
    """A Bernoulli trial, as `diffcore_gpu.plan.draw.bernoulli`."""
    shift: int = 32 - GRID_BITS
    return word >> shift < threshold


@njit
def randint(word: int, count: int) -> int:
    """An integer uniform on [0, count), as `diffcore_gpu.plan.draw.randint`."""
    return (word * count) >> 32


@njit
def _side(area: int, size: int) -> int:
    root = np.sqrt(np.float32(area)) * np.float32(2.0 ** -(GRID_BITS // 2))
    return min(max(int(np.float32(root * np.float32(size))), 1), size)


@njit
def _edges(word: int, side: int, size: int, inside: bool) -> tuple[int, int]:
    """Begin and end of the box on one axis."""
    start = randint(word, size - side + 1) if inside else randint(word, size) - side // 2
    return max(start, 0), min(start + side, size)


def draw(arguments: Any) -> None:
    """Write the plan of a batch, and compare its indices and labels with the store."""
    a = carray(arguments, _SHARDS, np.int64)
    batch, num_samples, num_pairs = a[Argument.BATCH], a[Argument.NUM_SAMPLES], a[Argument.NUM_PAIRS]
    height, width, inside = a[Argument.HEIGHT], a[Argument.WIDTH], a[Argument.BOX_INSIDE] != 0
    index = carray(pointer(a[Argument.INDEX]), batch, np.int64)
    labels = carray(pointer(a[Argument.LABELS]), batch, np.int64)
    pair_ptr = carray(pointer(a[Argument.PAIR_PTR]), num_samples + 1, np.int64)
    pair_row = carray(pointer(a[Argument.PAIR_ROW]), num_pairs, np.int64)
    row_label = carray(pointer(a[Argument.ROW_LABEL]), a[Argument.NUM_ROWS], np.int64)
    table = carray(pointer(a[Argument.LAM_TABLE]), 1 << TABLE_BITS, np.float32)
    rows = carray(pointer(a[Argument.ROW]), batch, np.int64)
    pixel = carray(pointer(a[Argument.PIXEL]), batch, np.uint8)
    lam = carray(pointer(a[Argument.LAM]), batch, np.float32)
    box = carray(pointer(a[Argument.BOX]), (batch, 4), np.int32)
    inside_real = carray(pointer(a[Argument.INSIDE_REAL]), batch, np.uint8)
    counter = carray(pointer(a[Argument.ROUND]), 1, np.int64)
    for i in range(batch):
        mixed_word, pixel_word, lam_word, row_word = philox(index[i], counter[0], STREAM_CHOICE, a[Argument.SEED])
        area_word, top_word, left_word, inside_word = philox(index[i], counter[0], STREAM_BOX, a[Argument.SEED])
        row = -1
        sample = index[i] & SAMPLE_MASK
        if index[i] < 0 or sample >= num_samples:
            a[Argument.REFUSED] = 1
        elif num_pairs > 0:
            first = pair_ptr[sample]
            count = pair_ptr[sample + 1] - first
            if count > 0 and bernoulli(mixed_word, a[Argument.MIXED_BELOW]):
                row = pair_row[first if a[Argument.BEST_ROW] else first + randint(row_word, count)]
                if row >= a[Argument.NUM_ROWS]:
                    row = -1
        if row >= 0 and a[Argument.LABELS] and labels[i] != row_label[row]:
            a[Argument.REFUSED] = 1
        rows[i] = row
        pixel[i] = bernoulli(pixel_word, a[Argument.PIXEL_BELOW])
        if a[Argument.LAM_TABLE]:
            lam[i] = table[lam_word >> (32 - TABLE_BITS)]
        else:
            lam[i] = np.float32(a[Argument.LAM_LOW] + randint(lam_word, a[Argument.LAM_SPAN])) * np.float32(1 / GRID)
        area = a[Argument.AREA_LOW] + randint(area_word, a[Argument.AREA_SPAN])
        box[i, 0], box[i, 2] = _edges(top_word, _side(area, height), height, inside)
        box[i, 1], box[i, 3] = _edges(left_word, _side(area, width), width, inside)
        inside_real[i] = bernoulli(inside_word, a[Argument.REAL_PATCH_BELOW])
    if a[Argument.ADVANCE] and not a[Argument.REFUSED]:
        counter[0] += 1


# --- The values -------------------------------------------------------------------------------------------------------


# Values of 16 bits are the integers of `numba_primitives`. They are computed in float64, rounded to float32 and then to
# their own type, as torch does.


def _wide(value: Any) -> Any:
    """A value of the images as float64."""
    raise NotImplementedError  # stands for the overload that the compiler takes


@overload(_wide)
def _overload_wide(value: Any) -> Callable[..., Any]:
    def wide_half(value: Any) -> Any:
        return np.float64(from_float16(value))

    def wide_bfloat(value: Any) -> Any:
        return np.float64(from_bfloat16(value))

    def wide_float(value: Any) -> Any:
        return np.float64(value)

    return {types.uint16: wide_half, types.int16: wide_bfloat}.get(value, wide_float)


def _rounded(value: Any, like: Any) -> Any:
    """A float64 as a value of the images, of which `like` is one."""
    raise NotImplementedError


@overload(_rounded)
def _overload_rounded(value: Any, like: Any) -> Callable[..., Any]:
    def rounded_half(value: Any, like: Any) -> Any:
        return to_float16(np.float32(value))

    def rounded_bfloat(value: Any, like: Any) -> Any:
        return to_bfloat16(np.float32(value))

    def rounded_float(value: Any, like: Any) -> Any:
        return np.float32(value)

    return {types.uint16: rounded_half, types.int16: rounded_bfloat}.get(like, rounded_float)


def _shown(g: Any, scale: Any, shift: Any, like: Any) -> Any:
    """A byte of the counterpart as a value of the images, of which `like` is one: g·scale + shift, or the byte."""
    raise NotImplementedError


@overload(_shown)
def _overload_shown(g: Any, scale: Any, shift: Any, like: Any) -> Callable[..., Any]:
    def shown_float(g: Any, scale: Any, shift: Any, like: Any) -> Any:
        return _rounded(np.float64(g) * scale + shift, like)

    def shown_byte(g: Any, scale: Any, shift: Any, like: Any) -> Any:
        return g

    return shown_byte if like == types.uint8 else shown_float


def _mixed(real: Any, g: Any, lam: Any, units: Any, scale: Any, shift: Any) -> Any:
    """Eq. 6, with scale and shift that are multiplied by 1 − λ already; for bytes with λ in units of 2⁻²⁴."""
    raise NotImplementedError


@overload(_mixed)
def _overload_mixed(real: Any, g: Any, lam: Any, units: Any, scale: Any, shift: Any) -> Callable[..., Any]:
    def mixed_float(real: Any, g: Any, lam: Any, units: Any, scale: Any, shift: Any) -> Any:
        return _rounded(np.float64(g) * scale + shift + lam * _wide(real), real)

    def mixed_byte(real: Any, g: Any, lam: Any, units: Any, scale: Any, shift: Any) -> Any:
        # Every value fits 32 bits, which it has to say: numba computes in 64 otherwise. To nearest, ties to even.
        exact = np.uint32(np.uint32(units * np.uint32(real)) + np.uint32(np.uint32(GRID - units) * np.uint32(g)))
        odd = np.uint32(exact >> np.uint32(GRID_BITS)) & np.uint32(1)
        return np.uint8(np.uint32(exact + np.uint32(np.uint32(GRID // 2 - 1) + odd)) >> np.uint32(GRID_BITS))

    return mixed_byte if real == types.uint8 else mixed_float


# --- A run of pixels [start, stop) of one image -----------------------------------------------------------------------
# `out`, `real` and `generated` are flat, the whole image each. Planar images are [C, H·W] and are worked on plane by
# plane, interleaved ones [H·W, C]; rows of the store are planar. Where `out` is `real`, loops of their own let the
# compiler know.


@njit
def _affine(norm: Any, c: int, weight: float) -> tuple[float, float]:
    """Scale and shift of a channel, times the weight of the counterpart."""
    scale = np.float64(norm[c, 0]) + np.float64(norm[c, 1])
    shift = np.float64(norm[c, 2]) + np.float64(norm[c, 3])
    return weight * scale, weight * shift


@njit
def _copy(out: Any, real: Any, first: int, last: int) -> None:
    target, source = out[first:last], real[first:last]
    for i in range(target.size):
        target[i] = source[i]


@njit
def _show_plane(out: Any, generated: Any, scale: float, shift: float, first: int, last: int) -> None:
    target, source = out[first:last], generated[first:last]
    for i in range(target.size):
        target[i] = _shown(source[i], scale, shift, target[0])


@njit
def _mix_plane(
    out: Any, real: Any, in_place: bool, generated: Any, norm: Any, lam: float, c: int, first: int, last: int
) -> None:
    units = np.uint32(np.rint(lam * GRID))
    scale, shift = _affine(norm, c, 1.0 - lam)
    target, own, source = out[first:last], real[first:last], generated[first:last]
    if in_place:
        for i in range(target.size):
            target[i] = _mixed(target[i], source[i], lam, units, scale, shift)
    else:
        for i in range(target.size):
            target[i] = _mixed(own[i], source[i], lam, units, scale, shift)


@njit
def _show_pixels(out: Any, generated: Any, norm: Any, start: int, stop: int) -> None:
    channels = norm.shape[0]
    plane = out.size // channels
    target = out[channels * start : channels * stop]
    if channels == 3:  # in one loop, which the compiler vectorizes by shuffling
        scale0, shift0 = _affine(norm, 0, 1.0)
        scale1, shift1 = _affine(norm, 1, 1.0)
        scale2, shift2 = _affine(norm, 2, 1.0)
        source0 = generated[start:stop]
        source1 = generated[plane + start : plane + stop]
        source2 = generated[2 * plane + start : 2 * plane + stop]
        for i in range(source0.size):
            target[3 * i] = _shown(source0[i], scale0, shift0, target[0])
            target[3 * i + 1] = _shown(source1[i], scale1, shift1, target[0])
            target[3 * i + 2] = _shown(source2[i], scale2, shift2, target[0])
        return
    for c in range(channels):
        scale, shift = _affine(norm, c, 1.0)
        source = generated[c * plane + start : c * plane + stop]
        for i in range(source.size):
            target[channels * i + c] = _shown(source[i], scale, shift, target[0])


@njit
def _mix_pixels(
    out: Any, real: Any, in_place: bool, generated: Any, norm: Any, lam: float, start: int, stop: int
) -> None:
    channels = norm.shape[0]
    plane = out.size // channels
    units = np.uint32(np.rint(lam * GRID))
    target, own = out[channels * start : channels * stop], real[channels * start : channels * stop]
    if channels == 3:
        scale0, shift0 = _affine(norm, 0, 1.0 - lam)
        scale1, shift1 = _affine(norm, 1, 1.0 - lam)
        scale2, shift2 = _affine(norm, 2, 1.0 - lam)
        source0 = generated[start:stop]
        source1 = generated[plane + start : plane + stop]
        source2 = generated[2 * plane + start : 2 * plane + stop]
        if in_place:
            for i in range(source0.size):
                target[3 * i] = _mixed(target[3 * i], source0[i], lam, units, scale0, shift0)
                target[3 * i + 1] = _mixed(target[3 * i + 1], source1[i], lam, units, scale1, shift1)
                target[3 * i + 2] = _mixed(target[3 * i + 2], source2[i], lam, units, scale2, shift2)
        else:
            for i in range(source0.size):
                target[3 * i] = _mixed(own[3 * i], source0[i], lam, units, scale0, shift0)
                target[3 * i + 1] = _mixed(own[3 * i + 1], source1[i], lam, units, scale1, shift1)
                target[3 * i + 2] = _mixed(own[3 * i + 2], source2[i], lam, units, scale2, shift2)
        return
    for c in range(channels):
        scale, shift = _affine(norm, c, 1.0 - lam)
        source = generated[c * plane + start : c * plane + stop]
        for i in range(source.size):
            target[channels * i + c] = _mixed(own[channels * i + c], source[i], lam, units, scale, shift)


# --- The mix of one image, or of a band of its lines ------------------------------------------------------------------


@njit
def _copy_lines(out: Any, real: Any, channels: int, interleaved: bool, start: int, stop: int) -> None:
    plane = out.size // channels
    if interleaved:
        _copy(out, real, channels * start, channels * stop)
    else:
        for c in range(channels):
            _copy(out, real, c * plane + start, c * plane + stop)


@njit
def _mix_lines(
    out: Any, real: Any, in_place: bool, generated: Any, norm: Any, lam: float, interleaved: bool, start: int, stop: int
) -> None:
    """Eq. 6."""
    channels = norm.shape[0]
    plane = out.size // channels
    if interleaved:
        _mix_pixels(out, real, in_place, generated, norm, lam, start, stop)
    else:
        for c in range(channels):
            _mix_plane(out, real, in_place, generated, norm, lam, c, c * plane + start, c * plane + stop)


@njit
def _patch_lines(
    out: Any, real: Any, in_place: bool, generated: Any, norm: Any, box: Any, inside_real: bool, interleaved: bool,
    width: int, first: int, last: int,
) -> None:  # fmt: skip
    """Eq. 7: by turns a run around the box, from its right edge to its left edge on the next line, and one inside."""
    channels = norm.shape[0]
    plane = out.size // channels
    top, left = max(box[0], first), max(box[1], 0)
    bottom, right = min(box[2], last), min(box[3], width)
    if left >= right or top > bottom:  # no pixel of the box is in these lines
        bottom = top
    for c in range(1 if interleaved else channels):
        scale, shift = _affine(norm, c, 1.0)
        start = first * width
        for turn in range(2 * (bottom - top) + 1):
            line = top + turn // 2
            inside = turn % 2 == 1
            if line == bottom:
                stop = last * width
            elif inside:
                stop = line * width + right
            else:
                stop = line * width + left
            if inside == inside_real:
                if not in_place:
                    if interleaved:
                        _copy(out, real, channels * start, channels * stop)
                    else:
                        _copy(out, real, c * plane + start, c * plane + stop)
            elif interleaved:
                _show_pixels(out, generated, norm, start, stop)
            else:
                _show_plane(out, generated, scale, shift, c * plane + start, c * plane + stop)
            start = stop


# --- The mix of a batch -----------------------------------------------------------------------------------------------


@njit
def _shard_of(a: Any, row: int) -> int:
    """The shard that holds a row, by bisection."""
    low, high = 0, a[Argument.NUM_SHARDS] - 1
    while low < high:
        middle = (low + high + 1) // 2
        if a[_SHARDS + 2 * middle + 1] <= row:
            low = middle
        else:
            high = middle - 1
    return low


@njit
def _work(arguments: Any, dtype: Any) -> None:
    """Take pieces of work until none is left."""
    head = carray(arguments, _SHARDS, np.int64)
    a = carray(arguments, _SHARDS + 2 * head[Argument.NUM_SHARDS], np.int64)
    batch, channels, height, width = a[Argument.BATCH], a[Argument.CHANNELS], a[Argument.HEIGHT], a[Argument.WIDTH]
    rows = carray(pointer(a[Argument.ROW]), batch, np.int64)
    pixel = carray(pointer(a[Argument.PIXEL]), batch, np.uint8)
    lams = carray(pointer(a[Argument.LAM]), batch, np.float32)
    box = carray(pointer(a[Argument.BOX]), (batch, 4), np.int32)
    inside_real = carray(pointer(a[Argument.INSIDE_REAL]), batch, np.uint8)
    norm = carray(pointer(a[Argument.NORM]), (channels, 4), np.float32)
    interleaved = a[Argument.INTERLEAVED] != 0
    in_place = a[Argument.IMAGES] == a[Argument.OUT]
    values = channels * height * width
    images = carray(pointer(a[Argument.IMAGES]), (batch, values), dtype)
    outs = carray(pointer(a[Argument.OUT]), (batch, values), dtype)
    bands = (height + a[Argument.LINES] - 1) // a[Argument.LINES]
    counter = a.ctypes.data + _NEXT_OFFSET
    while True:
        piece = take(counter)
        if piece >= batch * bands:
            return
        i, first = piece // bands, piece % bands * a[Argument.LINES]
        last = min(first + a[Argument.LINES], height)
        real, out, row, lam = images[i], outs[i], rows[i], np.float64(lams[i])
        if row < 0 or (pixel[i] and lam == 1):
            if not in_place:
                _copy_lines(out, real, channels, interleaved, first * width, last * width)
            continue
        shard = _shard_of(a, row)
        address = a[_SHARDS + 2 * shard] + (row - a[_SHARDS + 2 * shard + 1]) * values
        generated = carray(pointer(address), values, np.uint8)
        if not pixel[i]:
            _patch_lines(
                out, real, in_place, generated, norm, box[i], inside_real[i] != 0, interleaved, width, first, last
            )  # fmt: skip
        elif lam > 0:
            _mix_lines(out, real, in_place, generated, norm, lam, interleaved, first * width, last * width)
        else:  # the counterpart alone, whatever the image holds: as a patch that shows it around an empty box
            _patch_lines(
                out, real, in_place, generated, norm, (0, 0, 0, 0), True, interleaved, width, first, last
            )  # fmt: skip


def mix_float(arguments: Any) -> None:
    """Mix float32 images; called by every thread."""
    _work(arguments, np.float32)


def mix_half(arguments: Any) -> None:
    """Mix float16 images; called by every thread."""
    _work(arguments, np.uint16)


def mix_bfloat(arguments: Any) -> None:
    """Mix bfloat16 images; called by every thread."""
    _work(arguments, np.int16)


def mix_byte(arguments: Any) -> None:
    """Mix uint8 images; called by every thread."""
    _work(arguments, np.uint8)
