"""DiffCoRe-Mix (eqs. 6–8) of one batch in one launch: draw the plan, gather the counterpart, normalize, mix, write.

Bytes that must move per pixel and channel, for images of b bytes per value (4, 2 or 1):
    pixel-wise  b (real) + 1 (counterpart) + b (output);
    patch-wise  b or 1, whichever of the two shows there, + b;
    no row      2b, and nothing at all in place.
How the tiles follow from that: a program takes BLOCK pixels of one sample and walks through their channels, so that the
plan and the box mask are worked out once for all channels. Each thread holds 16 neighbouring pixels: 16 bytes of the
uint8 store in one load, the images in loads of 16 bytes each. Where channels interleave (channels_last), a tile is
BLOCK consecutive values instead: the images are read and written as wide, the store byte by byte, three streams that
share their cache lines. In a patch, the predicate of a load is decided for a whole group of 16 values, which keeps the
loads wide and skips the source that does not show.

Arithmetic is float32 with error terms (products by fma, Knuth's two-sum), because λ·I + (1−λ)·G cancels for normalized
images: the result is within 1 unit in the last place of the exact one, or within 2⁻⁴⁰ of the larger operand where
nearly everything cancels. It needs `enable_fp_fusion=False`: a contracted product would lose its error term. uint8
images mix in integers, exactly, since λ is a multiple of 2⁻²⁴.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .plan import (
    AT_NORM,
    address_in,
    advance_round,
    count_wrong,
    draw_mix,
    read_box,
    store_in,
    take_ticket,
    write_mix,
)
from .specialization import batch_kernel

GROUP = tl.constexpr(16)
BLOCK = 2048
NUM_WARPS = 4


@triton.jit
def _two_sum(a, b):
    """(s, e) with s = fl(a + b) and s + e = a + b exactly."""
    s = a + b
    a_part = s - b
    return s, (a - a_part) + (b - (s - a_part))


@triton.jit
def _channel_constant(norm, c, channel, C: tl.constexpr, PLANAR: tl.constexpr, WHICH: tl.constexpr):
    """One of the four constants of `norm`: that of plane c, or for interleaved channels that of each element."""
    value = tl.load(norm + 4 * c + WHICH)
    if not PLANAR:
        for k in tl.static_range(1, C):
            value = tl.where(channel == k, tl.load(norm + 4 * k + WHICH), value)
    return value


@triton.jit
def _normalize(g, norm, c, channel, C: tl.constexpr, PLANAR: tl.constexpr, HALF: tl.constexpr):
    """g·scale + shift as an unevaluated sum of two float32, for g an integer in [0, 255]."""
    if HALF:
        norm += 4 * C
    scale = _channel_constant(norm, c, channel, C, PLANAR, 0)
    scale_low = _channel_constant(norm, c, channel, C, PLANAR, 1)
    shift = _channel_constant(norm, c, channel, C, PLANAR, 2)
    shift_low = _channel_constant(norm, c, channel, C, PLANAR, 3)
    if HALF:  # these constants are rounded so that the first line is exact
        high = tl.fma(g, scale, shift)
        low = tl.fma(g, scale_low, shift_low)
    else:
        product = g * scale
        product_error = tl.fma(g, scale, -product)
        high, low = _two_sum(product, shift)
        low += tl.fma(g, scale_low, product_error + shift_low)
    return high, low


@triton.jit
def _blend(real, high, low, lam):
    """λ·real + (1−λ)·(high + low), rounded to float32 nearly always as if computed exactly."""
    rest = 1.0 - lam
    p = lam * real
    p_error = tl.fma(lam, real, -p)
    q = rest * high
    q_error = tl.fma(rest, high, -q)
    s, s_error = _two_sum(p, q)
    correction = s_error + (p_error + q_error + rest * low)
    return s + tl.where(correction == correction, correction, 0.0)  # infinite or NaN images: s says it


@triton.jit
def _blend_uint8(real, generated, lam):
    """The same for bytes, in exact integer arithmetic, rounded to nearest, ties to even."""
    units = (lam * 16777216.0).to(tl.uint32)
    total = real.to(tl.uint32) * units + generated.to(tl.uint32) * (16777216 - units)
    return ((total + 0x7FFFFF + ((total >> 24) & 1)) >> 24).to(tl.uint8)


@triton.jit
def _pixel_tile(
    images, out, store, norm, lam, offsets, store_offsets, channel, valid,
    C: tl.constexpr, SIZE: tl.constexpr, PLANAR: tl.constexpr, STORE_PLANAR: tl.constexpr,
):  # fmt: skip
    """Eq. 6 for one tile of one sample; the pointers are those of the sample."""
    HALF: tl.constexpr = images.dtype.element_ty.primitive_bitwidth == 16
    for c in tl.static_range(C if PLANAR else 1):
        generated = tl.load(store + c * (SIZE if STORE_PLANAR else 1) + store_offsets, mask=valid, other=0)
        real = tl.load(images + c * SIZE + offsets, mask=valid, other=0)
        if images.dtype.element_ty == tl.uint8:
            mixed = _blend_uint8(real, generated, lam)
        else:
            high, low = _normalize(generated.to(tl.float32), norm, c, channel, C, PLANAR, HALF)
            mixed = _blend(real.to(tl.float32), high, low, lam).to(out.dtype.element_ty)
        tl.store(out + c * SIZE + offsets, mixed, mask=valid)


@triton.jit
def _patch_tile(
    images, out, store, norm, top, left, bottom, right, inside_real, offsets, store_offsets, channel, valid,
    C: tl.constexpr, SIZE: tl.constexpr, W: tl.constexpr, PLANAR: tl.constexpr, STORE_PLANAR: tl.constexpr,
    INPLACE: tl.constexpr,
):  # fmt: skip
    """Eq. 7 likewise; `inside_real` is 0 or 1."""
    STEP: tl.constexpr = 1 if PLANAR else C
    position = offsets // STEP
    y = position // W
    x = position - y * W
    inside = ((y >= top) & (y < bottom) & (x >= left) & (x < right)).to(tl.int32)
    # The same question for the group of values that one wide load brings: is any inside, is any outside?
    group_start = (offsets // GROUP) * GROUP
    first = group_start // STEP
    last = (group_start + (GROUP - 1)) // STEP
    y_first = first // W
    y_last = last // W
    x_first = first - y_first * W
    x_last = last - y_last * W
    one_line = y_first == y_last
    lines_touch = (y_last >= top) & (y_first < bottom)
    any_inside = (lines_touch & (((x_first < right) & (x_last >= left)) | (one_line == 0))).to(tl.int32)
    lines_within = one_line & (y_first >= top) & (y_first < bottom)
    any_outside = 1 - (lines_within & (x_first >= left) & (x_last < right)).to(tl.int32)
    need_real = (((any_inside & inside_real) | (any_outside & (1 - inside_real))) > 0) & valid
    need_generated = (((any_inside & (1 - inside_real)) | (any_outside & inside_real)) > 0) & valid
    HALF: tl.constexpr = images.dtype.element_ty.primitive_bitwidth == 16
    for c in tl.static_range(C if PLANAR else 1):
        shown = tl.load(store + c * (SIZE if STORE_PLANAR else 1) + store_offsets, mask=need_generated, other=0)
        if images.dtype.element_ty != tl.uint8:
            high, low = _normalize(shown.to(tl.float32), norm, c, channel, C, PLANAR, HALF)
            shown = (high + low).to(out.dtype.element_ty)
        if INPLACE:
            tl.store(out + c * SIZE + offsets, shown, mask=valid & (inside != inside_real))
        else:
            real = tl.load(images + c * SIZE + offsets, mask=need_real, other=0)
            tl.store(out + c * SIZE + offsets, tl.where(inside == inside_real, real, shown), mask=valid)


@triton.jit
def _mix_tile(
    images, out, store, norm, row, pixel, lam, top, left, bottom, right, inside_real, sample, tile,
    C: tl.constexpr, H: tl.constexpr, W: tl.constexpr, BLOCK: tl.constexpr,
    PLANAR: tl.constexpr, STORE_PLANAR: tl.constexpr, INPLACE: tl.constexpr,
):  # fmt: skip
    """Write one tile of one sample."""
    SIZE: tl.constexpr = H * W
    offsets = tile * BLOCK + tl.arange(0, BLOCK)
    if PLANAR:
        channel = 0
        store_offsets = offsets if STORE_PLANAR else offsets * C
        valid = offsets < SIZE
    else:
        channel = offsets % C
        store_offsets = (channel * SIZE + offsets // C) if STORE_PLANAR else offsets
        valid = offsets < C * SIZE
    images += sample.to(tl.int64) * (C * SIZE)
    out += sample.to(tl.int64) * (C * SIZE)
    if row < 0:
        if not INPLACE:
            for c in tl.static_range(C if PLANAR else 1):
                tl.store(out + c * SIZE + offsets, tl.load(images + c * SIZE + offsets, mask=valid), mask=valid)
    else:
        store += row * (C * SIZE)
        if pixel & (lam > 0.0) & (lam < 1.0):
            _pixel_tile(
                images, out, store, norm, lam, offsets, store_offsets, channel, valid, C, SIZE, PLANAR, STORE_PLANAR
            )  # fmt: skip
        else:
            # Pixel-wise with λ = 0 or 1 shows one image alone: everything outside an empty box.
            right = tl.where(pixel, 0, right)
            bottom = tl.where(pixel, 0, bottom)
            inside_real = tl.where(pixel, (lam == 0.0).to(tl.int32), inside_real)
            _patch_tile(
                images, out, store, norm, top, left, bottom, right, inside_real, offsets, store_offsets, channel, valid,
                C, SIZE, W, PLANAR, STORE_PLANAR, INPLACE,
            )  # fmt: skip


@batch_kernel
def mix_store_kernel(
    images, out, index, labels, round, status, constants, plan,
    C: tl.constexpr, H: tl.constexpr, W: tl.constexpr, BLOCK: tl.constexpr, THREADS: tl.constexpr,
    PLANAR: tl.constexpr, STORE_PLANAR: tl.constexpr, INPLACE: tl.constexpr, ADVANCE: tl.constexpr,
    CHECK_LABELS: tl.constexpr, LAM_TABLE: tl.constexpr, BOX_INSIDE: tl.constexpr, BEST_ROW: tl.constexpr,
    WRITE_PLAN: tl.constexpr, PLACES: tl.constexpr,
):  # fmt: skip
    """Draw the plan of a sample and mix one tile of it; grid: samples × tiles of a sample."""
    TILES: tl.constexpr = ((H * W if PLANAR else C * H * W) + BLOCK - 1) // BLOCK
    sample = tl.program_id(0) // TILES
    tile = tl.program_id(0) % TILES
    sample_index = tl.load(index + sample)
    this_round = tl.load(round)
    if ADVANCE:
        ticket = take_ticket(status, this_round, THREADS)
    row, pixel, lam, top, left, bottom, right, inside_real, unknown_index, unknown_row, wrong_label = draw_mix(
        sample, sample_index, this_round, labels, constants, H, W, CHECK_LABELS, LAM_TABLE, BOX_INSIDE, BEST_ROW
    )
    if tile == 0:
        count_wrong(status, unknown_index, unknown_row, wrong_label)
        if WRITE_PLAN:
            write_mix(
                plan, tl.num_programs(0) // TILES, sample,
                row, pixel, lam, top, left, bottom, right, inside_real, PLACES,
            )  # fmt: skip
    store = store_in(constants)
    norm = address_in(constants, AT_NORM, tl.float32)
    _mix_tile(
        images, out, store, norm, row, pixel, lam, top, left, bottom, right, inside_real, sample, tile,
        C, H, W, BLOCK, PLANAR, STORE_PLANAR, INPLACE,
    )  # fmt: skip
    if ADVANCE:
        advance_round(round, this_round, status, ticket, THREADS)


@batch_kernel
def mix_plan_kernel(
    images, out, store, norm, plan_row, plan_pixel, plan_lam, plan_box, plan_inside_real, num_rows,
    C: tl.constexpr, H: tl.constexpr, W: tl.constexpr, BLOCK: tl.constexpr,
    PLANAR: tl.constexpr, STORE_PLANAR: tl.constexpr, INPLACE: tl.constexpr,
):  # fmt: skip
    """Mix one tile of a sample by a plan that is given; grid: samples × tiles of a sample."""
    TILES: tl.constexpr = ((H * W if PLANAR else C * H * W) + BLOCK - 1) // BLOCK
    sample = tl.program_id(0) // TILES
    row = tl.load(plan_row + sample)
    top, left, bottom, right = read_box(plan_box, sample)
    _mix_tile(
        images, out, store, norm, tl.where(row < num_rows, row, -1),
        tl.load(plan_pixel + sample).to(tl.int1), tl.load(plan_lam + sample), top, left, bottom, right,
        tl.load(plan_inside_real + sample).to(tl.int32), sample, tl.program_id(0) % TILES,
        C, H, W, BLOCK, PLANAR, STORE_PLANAR, INPLACE,
    )  # fmt: skip


def is_planar(tensor: Tensor, name: str = "images") -> bool:
    """Whether a batch is contiguous; False: channels_last. Any other strides raise ValueError."""
    if tensor.is_contiguous():
        return True
    if not tensor.is_contiguous(memory_format=torch.channels_last):
        raise ValueError(f"{name} must be contiguous or channels_last, got strides {tensor.stride()}.")
    return False


def threads_of(warps: int) -> int:
    """Threads of a program."""
    return warps * (64 if torch.version.hip else 32)


def _launch_options(images: Tensor, out: Tensor) -> tuple[tuple[int], dict[str, int | bool]]:
    """The grid, and the constants that the kernel is compiled for."""
    batch, channels, height, width = images.shape
    planar = is_planar(images)
    tiles = triton.cdiv(height * width * (1 if planar else channels), BLOCK)
    return (batch * tiles,), {
        "C": channels,
        "H": height,
        "W": width,
        "BLOCK": BLOCK,
        "PLANAR": planar,
        "INPLACE": out is images,
        "num_warps": NUM_WARPS,
        "enable_fp_fusion": False,
    }


class Drawn(NamedTuple):
    """What the plan of a batch is drawn from.

    Attributes:
        index: int64 [B], contiguous, B above 0. The lower `spec.SAMPLE_BITS` bits are the dataset index, those above
            say how often the sample was drawn before in this round.
        labels: int64 [B], contiguous, to compare with the labels of the rows, or None.
        round: int64, one element.
        status: int32 [4], raised by the numbers of unknown indices, of unknown rows and of wrong labels; the last is 0
            between launches.
        constants: int64 in the order of `spec.CONSTANTS`; the store's address is divisible by 16.
        advance: add one to `round` when every program has read it.
        lam_table: λ is drawn from the table among the constants; False: it is uniform.
        box_inside: boxes are drawn where they fit whole; False: they are clipped.
        best_row: a sample takes its first row; False: any of its rows.
        store_planar: the store is contiguous; False: channels_last.
    """

    index: Tensor
    labels: Tensor | None
    round: Tensor
    status: Tensor
    constants: Tensor
    advance: bool
    lam_table: bool
    box_inside: bool
    best_row: bool
    store_planar: bool

    def arguments(self, plan: Tensor | None) -> tuple[Tensor, ...]:
        """The arguments of a kernel that draws, after images and output."""
        labels = self.index if self.labels is None else self.labels
        return self.index, labels, self.round, self.status, self.constants, self.status if plan is None else plan

    def flags(self) -> dict[str, bool]:
        """The constants that a kernel which draws is compiled for."""
        return {
            "ADVANCE": self.advance,
            "CHECK_LABELS": self.labels is not None,
            "LAM_TABLE": self.lam_table,
            "BOX_INSIDE": self.box_inside,
            "BEST_ROW": self.best_row,
            "STORE_PLANAR": self.store_planar,
        }


def launch_mix_store(
    images: Tensor, out: Tensor, drawn: Drawn, plan: Tensor | None = None, places: Sequence[int] = ()
) -> Any:
    """Draw the plan of every sample and write the mixed batch, in one launch on the current stream.

    Args:
        images: [B, C, H, W] uint8, float16, bfloat16 or float32, contiguous or channels_last, B above 0.
        out: like images and of the same strides, or images itself.
        drawn: what the plan is drawn from; its store has rows of C × H × W bytes.
        plan: uint8, to write the fields row (int64), pixel (bool), lam (float32), box (int32 × 4) and inside_real
            (bool) into, one after another, or None. Its address is divisible by 16.
        places: for each field of `plan` the bytes per sample before it: field k begins at byte places[k] · B, with B
            rounded up to a multiple of 16.

    Returns:
        The compiled kernel that was launched, or None in Triton's interpreter.
    """
    grid, options = _launch_options(images, out)
    return mix_store_kernel[grid](
        images, out, *drawn.arguments(plan), THREADS=threads_of(NUM_WARPS), **drawn.flags(),
        WRITE_PLAN=plan is not None, PLACES=tuple(places), **options,
    )  # fmt: skip


def launch_mix_plan(images: Tensor, out: Tensor, store: Tensor, norm: Tensor, plan: Sequence[Tensor]) -> Any:
    """Write the batch that is mixed by a given plan, in one launch.

    Args:
        images: as in `launch_mix_store`.
        out: as in `launch_mix_store`.
        store: uint8 [num_rows, C, H, W], contiguous or channels_last.
        norm: float32 [2, C, 4], scale and shift of the counterparts as (high, low) pairs; first for float32 images,
            then for 16-bit images, with the highs rounded so that g·scale + shift is exact for every byte g.
        plan: row, pixel, lam, box and inside_real of `MixPlan`.

    Returns:
        The compiled kernel that was launched, or None in Triton's interpreter.
    """
    grid, options = _launch_options(images, out)
    return mix_plan_kernel[grid](
        images, out, store, norm, *plan, store.shape[0], STORE_PLANAR=is_planar(store, "store"), **options
    )
