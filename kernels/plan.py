"""The plan of one sample, drawn inside a kernel: the same integers as `diffcore_gpu.plan.draw`, bit for bit.

Every program that works on a sample draws its plan anew: two Philox blocks are about 250 integer instructions, which
hide behind the loads that follow, while a plan in memory would be a second launch and a trip through it.

What is the same for every batch comes from one int64 vector in the order of `spec.CONSTANTS`; where the samples differ,
from `index`, `labels` and `round`.
"""

from __future__ import annotations

import triton
import triton.language as tl

from . import spec

AT_STORE = tl.constexpr(spec.CONSTANTS.index("store"))
AT_PAIR_PTR = tl.constexpr(spec.CONSTANTS.index("pair_ptr"))
AT_PAIR_ROW = tl.constexpr(spec.CONSTANTS.index("pair_row"))
AT_ROW_LABEL = tl.constexpr(spec.CONSTANTS.index("row_label"))
AT_LAM_TABLE = tl.constexpr(spec.CONSTANTS.index("lam_table"))
AT_SIDE_TABLE = tl.constexpr(spec.CONSTANTS.index("side_table"))
AT_NORM = tl.constexpr(spec.CONSTANTS.index("norm"))
AT_NUM_SAMPLES = tl.constexpr(spec.CONSTANTS.index("num_samples"))
AT_NUM_ROWS = tl.constexpr(spec.CONSTANTS.index("num_rows"))
AT_SEED = tl.constexpr(spec.CONSTANTS.index("seed"))
AT_MIXED_BELOW = tl.constexpr(spec.CONSTANTS.index("mixed_below"))
AT_PIXEL_BELOW = tl.constexpr(spec.CONSTANTS.index("pixel_below"))
AT_REAL_PATCH_BELOW = tl.constexpr(spec.CONSTANTS.index("real_patch_below"))
AT_LAM_LOW = tl.constexpr(spec.CONSTANTS.index("lam_low"))
AT_LAM_SPAN = tl.constexpr(spec.CONSTANTS.index("lam_span"))
AT_AREA_LOW = tl.constexpr(spec.CONSTANTS.index("area_low"))
AT_AREA_SPAN = tl.constexpr(spec.CONSTANTS.index("area_span"))
AT_CROP_AREA_LOW = tl.constexpr(spec.CONSTANTS.index("crop_area_low"))
AT_CROP_AREA_SPAN = tl.constexpr(spec.CONSTANTS.index("crop_area_span"))
AT_MIRROR_BELOW = tl.constexpr(spec.CONSTANTS.index("mirror_below"))

STREAM_CHOICE = tl.constexpr(spec.STREAM_CHOICE)
STREAM_BOX = tl.constexpr(spec.STREAM_BOX)
STREAM_MIRROR = tl.constexpr(spec.STREAM_MIRROR)
STREAM_CROP = tl.constexpr(spec.STREAM_CROP)
STREAM_COUNTERPART_CROP = tl.constexpr(spec.STREAM_COUNTERPART_CROP)
CROP_ATTEMPTS = tl.constexpr(spec.CROP_ATTEMPTS)
SAMPLE_MASK = tl.constexpr(spec.SAMPLE_MASK)
TABLE_SIZE = tl.constexpr(2**spec.TABLE_BITS)
TABLE_SHIFT = tl.constexpr(32 - spec.TABLE_BITS)
GRID_SHIFT = tl.constexpr(32 - spec.GRID_BITS)
GRID_UNIT = tl.constexpr(2.0**-spec.GRID_BITS)
HALF_GRID_UNIT = tl.constexpr(2.0 ** (-spec.GRID_BITS // 2))

NO_ROUND = tl.constexpr(-(2**63))
PLAN_PADDING = tl.constexpr(spec.PLAN_PADDING)


@triton.jit
def address_in(constants, AT: tl.constexpr, TYPE: tl.constexpr):
    """An address among the constants, as a pointer to values of a type."""
    return tl.load(constants + AT).to(tl.pointer_type(TYPE))


@triton.jit
def store_in(constants):
    """The store, whose address is divisible by 16: for loads of 16 bytes."""
    return tl.multiple_of(tl.load(constants + AT_STORE).to(tl.pointer_type(tl.uint8)), 16)


@triton.jit
def number_in(constants, AT: tl.constexpr):
    """A number among the constants that fits an int32."""
    return tl.load(constants + AT).to(tl.int32)


@triton.jit
def _ticket_lanes(this_round, THREADS: tl.constexpr):
    """One lane per 32, once the round is there: no round is the lowest int64, but the compiler cannot know."""
    return tl.where(this_round != NO_ROUND, tl.arange(0, THREADS) % 32, 1) == 0


@triton.jit
def take_ticket(status, this_round, THREADS: tl.constexpr):
    """Say that this warp has read the round: how many warps of the grid said so before, in one lane per 32.

    THREADS is the number of threads of a program: with one element for each, every warp makes an addition of its own
    and keeps what it returns in its registers; that of a scalar would be handed around through shared memory. A warp
    that begins late must not read the next round, so every warp has a ticket, and not every program.
    """
    # The addition is predicated on the round, so no warp issues it before its read has returned; the next round is
    # stored behind a branch on what the last addition returned, after all reads. That orders them without a fence,
    # which would make every warp wait and empty the first-level cache.
    tickets = status + 3 + tl.zeros((THREADS,), tl.int32)
    return tl.atomic_add(tickets, 1, mask=_ticket_lanes(this_round, THREADS), sem="relaxed")


@triton.jit
def advance_round(round, this_round, status, ticket, THREADS: tl.constexpr):
    """Store the next round where `take_ticket` gave the last ticket of the grid, and let the tickets begin anew.

    No warp of this launch reads either again, since each has read the round and has its ticket; the next launch on the
    stream begins when this one has ended.
    """
    here = tl.zeros((THREADS,), tl.int32)
    last = _ticket_lanes(this_round, THREADS) & (ticket == tl.num_programs(0) * (THREADS // 32) - 1)
    tl.store(status + 3 + here, here, mask=last)
    tl.store(round + here, this_round + 1 + here, mask=last)


@triton.jit
def bernoulli(word, threshold):
    """A Bernoulli trial with probability threshold·2⁻²⁴, int1."""
    return (word >> GRID_SHIFT).to(tl.int32) < threshold


@triton.jit
def randint(word, count):
    """An integer uniform on [0, count), int32: the upper half of word · count."""
    return ((word.to(tl.int64) * count.to(tl.int64)) >> 32).to(tl.int32)


@triton.jit
def _box_side(area, SIZE: tl.constexpr):
    """Side in pixels of a box with `area`·2⁻²⁴ of the image; every operation is rounded exactly by IEEE 754."""
    side = tl.sqrt_rn(area.to(tl.float32)) * HALF_GRID_UNIT
    return tl.minimum(tl.maximum((side * SIZE).to(tl.int32), 1), SIZE)


@triton.jit
def draw_row(
    index, pair_ptr, pair_row, num_samples, num_rows, word_mixed, word_row, mixed_below, BEST_ROW: tl.constexpr
):
    """The counterpart of a sample: (row as int64, −1 for none; 1 if the index is unknown; 1 if the row is unknown)."""
    number = index & SAMPLE_MASK
    known = (index >= 0) & (number < num_samples)
    first = tl.load(pair_ptr + number, mask=known, other=0)
    last = tl.load(pair_ptr + number + 1, mask=known, other=0)
    count = last - first
    mixed = (count > 0) & bernoulli(word_mixed, mixed_below)
    position = first
    if not BEST_ROW:
        position += randint(word_row, count)
    row = tl.load(pair_row + position, mask=mixed, other=-1)
    unknown_row = (row >= num_rows) | (mixed & (row < 0))
    return tl.where(unknown_row, -1, row), 1 - known.to(tl.int32), unknown_row.to(tl.int32)


@triton.jit
def draw_box(
    word_area, word_y, word_x, area_low, area_span, H: tl.constexpr, W: tl.constexpr, BOX_INSIDE: tl.constexpr
):
    """The box of a sample as (top, left, bottom, right), int32, half-open, clipped to the image."""
    area = area_low + randint(word_area, area_span)
    box_h = _box_side(area, H)
    box_w = _box_side(area, W)
    if BOX_INSIDE:
        top = randint(word_y, H - box_h + 1)
        left = randint(word_x, W - box_w + 1)
    else:
        top = randint(word_y, tl.full((), H, tl.int32)) - box_h // 2
        left = randint(word_x, tl.full((), W, tl.int32)) - box_w // 2
    return tl.maximum(top, 0), tl.maximum(left, 0), tl.minimum(top + box_h, H), tl.minimum(left + box_w, W)


@triton.jit
def draw_words(index, round, seed, STREAM: tl.constexpr):
    """Philox4x32-10 at counter (index low, index high, round, stream) and key `seed`: four uint32 words."""
    low = (index & 0xFFFFFFFF).to(tl.uint32)
    high = ((index >> 32) & 0xFFFFFFFF).to(tl.uint32)
    return tl.philox(seed.to(tl.int64), low, high, (round & 0xFFFFFFFF).to(tl.uint32), tl.full((), STREAM, tl.uint32))


@triton.jit
def draw_mix(
    sample, sample_index, this_round, labels, constants, H: tl.constexpr, W: tl.constexpr, CHECK_LABELS: tl.constexpr,
    LAM_TABLE: tl.constexpr, BOX_INSIDE: tl.constexpr, BEST_ROW: tl.constexpr,
):  # fmt: skip
    """The plan of one sample of the batch, and whether its index, its row and its label are wrong (0 or 1 each).

    Returns:
        row (int64, −1 for none), pixel (int1), lam (float32), top, left, bottom, right, inside_real (int32), unknown
        index, unknown row, wrong label (int32).
    """
    seed = tl.load(constants + AT_SEED)
    word_mixed, word_pixel, word_lam, word_row = draw_words(sample_index, this_round, seed, STREAM_CHOICE)
    word_area, word_y, word_x, word_real = draw_words(sample_index, this_round, seed, STREAM_BOX)
    row, unknown_index, unknown_row = draw_row(
        sample_index, address_in(constants, AT_PAIR_PTR, tl.int64), address_in(constants, AT_PAIR_ROW, tl.int64),
        tl.load(constants + AT_NUM_SAMPLES), tl.load(constants + AT_NUM_ROWS), word_mixed, word_row,
        number_in(constants, AT_MIXED_BELOW), BEST_ROW,
    )  # fmt: skip
    wrong_label = tl.full((), 0, tl.int32)
    if CHECK_LABELS:
        of_row = tl.load(address_in(constants, AT_ROW_LABEL, tl.int64) + row, mask=row >= 0, other=0)
        wrong_label = ((row >= 0) & (of_row != tl.load(labels + sample))).to(tl.int32)
        row = tl.where(wrong_label > 0, -1, row)
    pixel = bernoulli(word_pixel, number_in(constants, AT_PIXEL_BELOW))
    inside_real = bernoulli(word_real, number_in(constants, AT_REAL_PATCH_BELOW))
    if LAM_TABLE:
        lam = tl.load(address_in(constants, AT_LAM_TABLE, tl.float32) + (word_lam >> TABLE_SHIFT).to(tl.int32))
    else:
        lam_units = number_in(constants, AT_LAM_LOW) + randint(word_lam, number_in(constants, AT_LAM_SPAN))
        lam = lam_units.to(tl.float32) * GRID_UNIT
    top, left, bottom, right = draw_box(
        word_area, word_y, word_x, number_in(constants, AT_AREA_LOW), number_in(constants, AT_AREA_SPAN),
        H, W, BOX_INSIDE,
    )  # fmt: skip
    return (
        row, pixel, lam, top, left, bottom, right, inside_real.to(tl.int32), unknown_index, unknown_row, wrong_label
    )  # fmt: skip


@triton.jit
def count_wrong(status, unknown_index, unknown_row, wrong_label):
    """Raise the counters of what only the device can see; nearly always there is nothing to write."""
    if unknown_index + unknown_row + wrong_label > 0:
        tl.atomic_add(status, unknown_index, sem="relaxed")
        tl.atomic_add(status + 1, unknown_row, sem="relaxed")
        tl.atomic_add(status + 2, wrong_label, sem="relaxed")


@triton.jit
def field_of(plan, batch, PLACE: tl.constexpr, TYPE: tl.constexpr):
    """A field of the packed plan, with PLACE bytes for each sample before it; fields begin at 16-byte boundaries."""
    padded = (batch + (PLAN_PADDING - 1)) // PLAN_PADDING * PLAN_PADDING
    return (plan + padded.to(tl.int64) * PLACE).to(tl.pointer_type(TYPE))


@triton.jit
def write_flag(plan, batch, sample, flag, PLACE: tl.constexpr):
    """Keep a bool of one sample, given as int32 or int1."""
    tl.store(field_of(plan, batch, PLACE, tl.uint8) + sample, flag.to(tl.uint8))


@triton.jit
def write_box(plan, batch, sample, top, left, bottom, right, PLACE: tl.constexpr):
    """Keep (top, left, bottom, right) of one sample, int32."""
    boxes = field_of(plan, batch, PLACE, tl.int32) + 4 * sample
    tl.store(boxes, top)
    tl.store(boxes + 1, left)
    tl.store(boxes + 2, bottom)
    tl.store(boxes + 3, right)


@triton.jit
def write_mix(
    plan, batch, sample, row, pixel, lam, top, left, bottom, right, inside_real, PLACES: tl.constexpr
):  # fmt: skip
    """Keep the plan of one sample: the fields row, pixel, lam, box and inside_real, in this order."""
    tl.store(field_of(plan, batch, PLACES[0], tl.int64) + sample, row)
    write_flag(plan, batch, sample, pixel, PLACES[1])
    tl.store(field_of(plan, batch, PLACES[2], tl.float32) + sample, lam)
    write_box(plan, batch, sample, top, left, bottom, right, PLACES[3])
    write_flag(plan, batch, sample, inside_real, PLACES[4])


@triton.jit
def write_crops(
    plan, batch, sample, top, left, bottom, right, mirror, other_top, other_left, other_bottom, other_right,
    other_mirror, PLACES: tl.constexpr,
):  # fmt: skip
    """Keep the crops of one sample: the fields crop, mirror, counterpart_crop and counterpart_mirror, after the mix."""
    write_box(plan, batch, sample, top, left, bottom, right, PLACES[5])
    write_flag(plan, batch, sample, mirror, PLACES[6])
    write_box(plan, batch, sample, other_top, other_left, other_bottom, other_right, PLACES[7])
    write_flag(plan, batch, sample, other_mirror, PLACES[8])


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
def _rint(value):
    """A float32 below 2^22 as int32, ties to even: above 2^23 a float32 has no bits for a fraction."""
    return ((value + 12582912.0) - 12582912.0).to(tl.int32)


@triton.jit
def draw_crop(index, round, constants, CENTRAL: tl.constexpr, H: tl.constexpr, W: tl.constexpr, STREAM: tl.constexpr):
    """The crop of an H×W image as `diffcore_gpu.plan.crops.draw_crops` draws it: (top, left, bottom, right), int32.

    CENTRAL, a tuple in the same order, is returned where no attempt fits.
    """
    top = tl.full((), CENTRAL[0], tl.int32)
    left = tl.full((), CENTRAL[1], tl.int32)
    bottom = tl.full((), CENTRAL[2], tl.int32)
    right = tl.full((), CENTRAL[3], tl.int32)
    seed = tl.load(constants + AT_SEED)
    side_table = address_in(constants, AT_SIDE_TABLE, tl.float32)
    area_low = number_in(constants, AT_CROP_AREA_LOW)
    area_span = number_in(constants, AT_CROP_AREA_SPAN)
    root_area = tl.sqrt_rn(tl.full((), H * W, tl.float32))
    low = (index & 0xFFFFFFFF).to(tl.uint32)
    high = ((index >> 32) & 0xFFFFFFFF).to(tl.uint32)
    counter = (round & 0xFFFFFFFF).to(tl.uint32)
    attempt = tl.full((), 0, tl.int32)
    while attempt < CROP_ATTEMPTS:
        word_area, word_shape, word_y, word_x = tl.philox(seed, low, high, counter, (attempt + STREAM).to(tl.uint32))
        area = area_low + randint(word_area, area_span)
        side = (tl.sqrt_rn(area.to(tl.float32)) * HALF_GRID_UNIT) * root_area
        shape = (word_shape >> TABLE_SHIFT).to(tl.int32)
        height = _rint(side * tl.load(side_table + shape))
        width = _rint(side * tl.load(side_table + TABLE_SIZE + shape))
        attempt += 1
        if (height >= 1) & (height <= H) & (width >= 1) & (width <= W):
            top = randint(word_y, H - height + 1)
            left = randint(word_x, W - width + 1)
            bottom = top + height
            right = left + width
            attempt = tl.full((), CROP_ATTEMPTS, tl.int32)  # the first that fits is taken
    return top, left, bottom, right


@triton.jit
def draw_mirrors(index, round, constants):
    """The mirror flags of a sample: (of the image, of its counterpart), int32."""
    word, other, _unused_2, _unused_3 = draw_words(index, round, tl.load(constants + AT_SEED), STREAM_MIRROR)
    below = number_in(constants, AT_MIRROR_BELOW)
    return bernoulli(word, below).to(tl.int32), bernoulli(other, below).to(tl.int32)
