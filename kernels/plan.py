"""The plan of one sample, drawn inside a kernel: the same integers as `diffcore_gpu.plan.draw`, bit for bit.

Every program that works on a sample draws its plan anew: two Philox blocks are about 250 integer instructions, which
hide behind the loads that follow, while a plan in memory would be a second launch and a trip through it.
"""

import triton
import triton.language as tl


@triton.jit
def pick(word, count):
    """An integer uniform on [0, count), int32: the upper half of word · count."""
    return ((word.to(tl.int64) * count.to(tl.int64)) >> 32).to(tl.int32)


@triton.jit
def _box_side(area, SIZE: tl.constexpr):
    """Side in pixels of a box with `area`·2⁻²⁴ of the image; every operation is rounded exactly by IEEE 754."""
    side = tl.sqrt_rn(area.to(tl.float32)) * 0.000244140625
    return tl.minimum(tl.maximum((side * SIZE).to(tl.int32), 1), SIZE)


@triton.jit
def draw_row(
    index, pair_ptr, pair_row, num_samples, num_rows, word_mixed, word_row, mixed_below, BEST_ROW: tl.constexpr
):
    """The counterpart of a sample: (row as int64, −1 for none; 1 if the index is unknown; 1 if the row is unknown)."""
    known = (index >= 0) & (index < num_samples)
    first = tl.load(pair_ptr + index, mask=known, other=0)
    last = tl.load(pair_ptr + index + 1, mask=known, other=0)
    count = last - first
    mixed = (count > 0) & ((word_mixed >> 8).to(tl.int32) < mixed_below)
    position = first
    if not BEST_ROW:
        position += pick(word_row, count)
    row = tl.load(pair_row + position, mask=mixed, other=-1)
    unknown_row = (row >= num_rows) | (mixed & (row < 0))
    return tl.where(unknown_row, -1, row), 1 - known.to(tl.int32), unknown_row.to(tl.int32)


@triton.jit
def draw_box(
    word_area, word_y, word_x, area_low, area_span, H: tl.constexpr, W: tl.constexpr, BOX_INSIDE: tl.constexpr
):
    """The box of a sample as (top, left, bottom, right), int32, half-open, clipped to the image."""
    area = area_low + pick(word_area, area_span)
    box_h = _box_side(area, H)
    box_w = _box_side(area, W)
    if BOX_INSIDE:
        top = pick(word_y, H - box_h + 1)
        left = pick(word_x, W - box_w + 1)
    else:
        top = pick(word_y, tl.full((), H, tl.int32)) - box_h // 2
        left = pick(word_x, tl.full((), W, tl.int32)) - box_w // 2
    return tl.maximum(top, 0), tl.maximum(left, 0), tl.minimum(top + box_h, H), tl.minimum(left + box_w, W)


@triton.jit
def draw_words(index, round, seed, STREAM: tl.constexpr):
    """Philox4x32-10 at counter (index low, index high, round, stream) and key `seed`: four uint32 words."""
    low = (index & 0xFFFFFFFF).to(tl.uint32)
    high = ((index >> 32) & 0xFFFFFFFF).to(tl.uint32)
    return tl.philox(seed.to(tl.int64), low, high, (round & 0xFFFFFFFF).to(tl.uint32), tl.full((), STREAM, tl.uint32))
