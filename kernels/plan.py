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


@triton.jit
def draw_mix(
    sample, index, labels, pair_ptr, pair_row, row_label, round, lam_table,
    num_samples, num_rows, seed, mixed_below, pixel_below, real_patch_below, lam_low, lam_span, area_low, area_span,
    H: tl.constexpr, W: tl.constexpr, CHECK_LABELS: tl.constexpr,
    LAM_TABLE: tl.constexpr, BOX_INSIDE: tl.constexpr, BEST_ROW: tl.constexpr,
):  # fmt: skip
    """The plan of one sample of the batch, and whether its index, its row and its label are wrong (0 or 1 each).

    Returns:
        row (int64, −1 for none), pixel (int1), lam (float32), top, left, bottom, right, inside_real (int32), unknown
        index, unknown row, wrong label (int32).
    """
    sample_index = tl.load(index + sample)
    this_round = tl.load(round)
    word_mixed, word_pixel, word_lam, word_row = draw_words(sample_index, this_round, seed, 0)
    word_area, word_y, word_x, word_real = draw_words(sample_index, this_round, seed, 1)
    row, unknown_index, unknown_row = draw_row(
        sample_index, pair_ptr, pair_row, num_samples, num_rows, word_mixed, word_row, mixed_below, BEST_ROW
    )
    wrong_label = tl.full((), 0, tl.int32)
    if CHECK_LABELS:
        of_row = tl.load(row_label + row, mask=row >= 0, other=0)
        wrong_label = ((row >= 0) & (of_row != tl.load(labels + sample))).to(tl.int32)
        row = tl.where(wrong_label > 0, -1, row)
    pixel = (word_pixel >> 8).to(tl.int32) < pixel_below
    inside_real = ((word_real >> 8).to(tl.int32) < real_patch_below).to(tl.int32)
    if LAM_TABLE:
        lam = tl.load(lam_table + (word_lam >> 16).to(tl.int32))
    else:
        lam = (lam_low + pick(word_lam, lam_span)).to(tl.float32) * 5.9604644775390625e-08
    top, left, bottom, right = draw_box(word_area, word_y, word_x, area_low, area_span, H, W, BOX_INSIDE)
    return row, pixel, lam, top, left, bottom, right, inside_real, unknown_index, unknown_row, wrong_label


@triton.jit
def count_wrong(status, unknown_index, unknown_row, wrong_label):
    """Raise the counters of what only the device can see; nearly always there is nothing to write."""
    if unknown_index + unknown_row + wrong_label > 0:
        tl.atomic_add(status, unknown_index)
        tl.atomic_add(status + 1, unknown_row)
        tl.atomic_add(status + 2, wrong_label)


@triton.jit
def write_mix(
    sample, plan_row, plan_pixel, plan_lam, plan_box, plan_inside_real,
    row, pixel, lam, top, left, bottom, right, inside_real,
):  # fmt: skip
    """Keep the plan of one sample."""
    tl.store(plan_row + sample, row)
    tl.store(plan_pixel + sample, pixel)
    tl.store(plan_lam + sample, lam)
    write_box(plan_box, sample, top, left, bottom, right)
    tl.store(plan_inside_real + sample, inside_real > 0)


@triton.jit
def write_box(boxes, sample, top, left, bottom, right):
    """Keep (top, left, bottom, right) of one sample."""
    tl.store(boxes + 4 * sample, top)
    tl.store(boxes + 4 * sample + 1, left)
    tl.store(boxes + 4 * sample + 2, bottom)
    tl.store(boxes + 4 * sample + 3, right)


@triton.jit
def read_box(boxes, sample):
    """(top, left, bottom, right) of one sample."""
    return (
        tl.load(boxes + 4 * sample),
        tl.load(boxes + 4 * sample + 1),
        tl.load(boxes + 4 * sample + 2),
        tl.load(boxes + 4 * sample + 3),
    )


@triton.jit
def _to_nearest(value):
    """A float32 below 2^22 as int32, ties to even: above 2^23 a float32 has no bits for a fraction."""
    return ((value + 12582912.0) - 12582912.0).to(tl.int32)


@triton.jit
def draw_crop(
    index, round, seed, side_table, area_low, area_span, top, left, bottom, right,
    H: tl.constexpr, W: tl.constexpr, STREAM: tl.constexpr, ATTEMPTS: tl.constexpr,
):  # fmt: skip
    """The crop of an H×W image as `diffcore_gpu.crops.draw_crops` draws it: (top, left, bottom, right), int32.

    The box that is passed, the central crop, is returned where no attempt fits.
    """
    root_area = tl.sqrt_rn(tl.full((), H * W, tl.float32))
    low = (index & 0xFFFFFFFF).to(tl.uint32)
    high = ((index >> 32) & 0xFFFFFFFF).to(tl.uint32)
    counter = (round & 0xFFFFFFFF).to(tl.uint32)
    attempt = tl.full((), 0, tl.int32)
    while attempt < ATTEMPTS:
        word_area, word_shape, word_y, word_x = tl.philox(
            seed.to(tl.int64), low, high, counter, (attempt + STREAM).to(tl.uint32)
        )
        area = area_low + pick(word_area, area_span)
        side = (tl.sqrt_rn(area.to(tl.float32)) * 0.000244140625) * root_area
        shape = (word_shape >> 16).to(tl.int32)
        height = _to_nearest(side * tl.load(side_table + shape))
        width = _to_nearest(side * tl.load(side_table + 65536 + shape))
        attempt += 1
        if (height >= 1) & (height <= H) & (width >= 1) & (width <= W):
            top = pick(word_y, H - height + 1)
            left = pick(word_x, W - width + 1)
            bottom = top + height
            right = left + width
            attempt = tl.full((), ATTEMPTS, tl.int32)  # the first that fits is taken
    return top, left, bottom, right
