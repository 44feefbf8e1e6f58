"""DiffCoRe-Mix (eqs. 6–8) of one batch in one launch: draw the plan, gather the counterpart, normalize, mix, write.

Bytes that must move per pixel and channel, for images of b bytes per value (4, 2 or 1):
    pixel-wise  b (real) + 1 (counterpart) + b (output);
    patch-wise  b or 1, whichever of the two shows there, + b;
    no row      2b, and nothing at all in place.
How the tiles follow from that: a program draws the plan of its sample once and takes STEPS tiles of it. A tile is BLOCK
pixels in all channels, or BLOCK consecutive values where channels interleave (channels_last). Each thread holds the
values of one 16-byte load of the images, and as many bytes of the store, so that no value changes its thread and the
lanes of a warp cover whole sectors. All loads of a tile come before its stores, for `out` may be `images`. Where the
store has the format of the images, both are one stream, read once, and leave the second-level cache first; where not,
the store is read byte by byte. Channels that interleave repeat over C tiles at most: tiles of a program are so far
apart that they begin with the same channel, and the constants of each value are loaded once. In a patch, the predicate
of a load is decided for all values of a thread, which keeps the loads wide and skips the source that does not show.

Arithmetic, for λ·I + (1−λ)·G, which cancels for normalized images:
    float32   with error terms (products by fma, Knuth's two-sum): within 1 unit in the last place of the exact result,
              or within 2⁻⁴⁰ of the larger operand where nearly everything cancels. It needs `enable_fp_fusion=False`: a
              contracted product would lose its error term.
    16 bits   fma(λ, I, fma(g, (1−λ)·scale, (1−λ)·shift)) in float32, rounded once to the type of the images.
    uint8     in integers, exactly, since λ is a multiple of 2⁻²⁴; to nearest, ties to even.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import spec
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
from .specialization import Launched, batch_kernel

GRID = tl.constexpr(2**spec.GRID_BITS)
# Values of a tile for each data type's bytes per value: 128 threads with 16 bytes each, 64 for bytes; 224² and 256² are
# multiples of all three.
BLOCKS = {4: 512, 2: 1024, 1: 1024}
WARP_SIZE = 64 if torch.version.hip else 32
STEPS = 8
"""Tiles of 16-bit values that a program takes at most, with all channels."""


@triton.jit
def _two_sum(a, b):
    """(s, e) with s = fl(a + b) and s + e = a + b exactly."""
    s = a + b
    a_part = s - b
    return s, (a - a_part) + (b - (s - a_part))


@triton.jit
def _blend_float(real, g, scale, scale_low, shift, shift_low, lam):
    """λ·real + (1−λ)·(g·scale + shift), rounded to float32 nearly always as if computed exactly."""
    high, low = _normalize(g, scale, scale_low, shift, shift_low)
    rest = 1.0 - lam
    p = lam * real
    p_error = tl.fma(lam, real, -p)
    q = rest * high
    q_error = tl.fma(rest, high, -q)
    s, s_error = _two_sum(p, q)
    correction = s_error + (p_error + tl.fma(rest, low, q_error))
    return s + tl.where(correction == correction, correction, 0.0)  # infinite or NaN images: s says it


@triton.jit
def _normalize(g, scale, scale_low, shift, shift_low):
    """g·scale + shift as an unevaluated sum of two float32, for g an integer in [0, 255]."""
    product = g * scale
    product_error = tl.fma(g, scale, -product)
    high, low = _two_sum(product, shift)
    return high, low + tl.fma(g, scale_low, product_error + shift_low)


@triton.jit
def _blend_uint8(real, generated, units):
    """The same for bytes, in exact integer arithmetic, rounded to nearest, ties to even; `units` is λ·2²⁴ as uint32."""
    total = real.to(tl.uint32) * units + generated.to(tl.uint32) * (GRID - units)
    return ((total + (GRID // 2 - 1) + ((total >> 24) & 1)) >> 24).to(tl.uint8)


@triton.jit
def _load_channels(pointer, offsets, mask, PLANE: tl.constexpr, COUNT: tl.constexpr, POLICY: tl.constexpr):
    """A tuple of COUNT tensors, from planes that lie PLANE values apart."""
    values = ()
    for c in tl.static_range(COUNT):
        values += (tl.load(pointer + c * PLANE + offsets, mask=mask, eviction_policy=POLICY),)
    return values


@triton.jit
def _load_constants(norm, channels, WHICH: tl.constexpr, COUNT: tl.constexpr):
    """One of the four constants of `norm` for COUNT channels from `channels` on, which is a scalar or of each value."""
    values = ()
    for c in tl.static_range(COUNT):
        values += (tl.load(norm + 4 * (channels + c) + WHICH),)
    return values


@triton.jit
def _scaled(values, factor, COUNT: tl.constexpr):
    scaled = ()
    for c in tl.static_range(COUNT):
        scaled += (factor * values[c],)
    return scaled


@triton.jit
def pixel_tiles(
    images, out, store, norm, lam, first_tile, end_tile,
    SIZE: tl.constexpr, PLANES: tl.constexpr, BLOCK: tl.constexpr, STRIDE: tl.constexpr, C: tl.constexpr,
    PLANAR: tl.constexpr, STORE_PLANAR: tl.constexpr,
):  # fmt: skip
    """Eq. 6 for the tiles of a program in PLANES planes; the pointers are those of the first plane of the sample."""
    BITS: tl.constexpr = images.dtype.element_ty.primitive_bitwidth
    POLICY: tl.constexpr = "evict_first" if PLANAR == STORE_PLANAR else ""
    STORE_PLANE: tl.constexpr = SIZE if STORE_PLANAR else 1
    # Where channels interleave, a tile begins with the same channel as the one before it in this program.
    channels = 0 if PLANAR else (first_tile * BLOCK + tl.arange(0, BLOCK)) % C
    units = (lam * GRID).to(tl.uint32)
    if BITS > 8:
        scale = _load_constants(norm, channels, 0, PLANES)
        shift = _load_constants(norm, channels, 2, PLANES)
        if BITS == 16:
            scale = _scaled(scale, 1.0 - lam, PLANES)
            shift = _scaled(shift, 1.0 - lam, PLANES)
        else:
            scale_low = _load_constants(norm, channels, 1, PLANES)
            shift_low = _load_constants(norm, channels, 3, PLANES)
    tile = first_tile
    while tile < end_tile:
        offsets = tile * BLOCK + tl.arange(0, BLOCK)
        valid = _within(offsets, SIZE, BLOCK)
        store_offsets = _store_offsets(offsets, SIZE, C, PLANAR, STORE_PLANAR)
        generated = _load_channels(store, store_offsets, valid, STORE_PLANE, PLANES, POLICY)
        real = _load_channels(images, offsets, valid, SIZE, PLANES, POLICY)
        for c in tl.static_range(PLANES):
            if BITS == 8:
                mixed = _blend_uint8(real[c], generated[c], units)
            elif BITS == 16:
                g = tl.fma(generated[c].to(tl.float32), scale[c], shift[c])
                mixed = tl.fma(real[c].to(tl.float32), lam, g)
            else:
                mixed = _blend_float(
                    real[c], generated[c].to(tl.float32), scale[c], scale_low[c], shift[c], shift_low[c], lam
                )
            tl.store(out + c * SIZE + offsets, mixed.to(out.dtype.element_ty), mask=valid)
        tile += STRIDE


@triton.jit
def _within(offsets, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    """Which offsets lie below SIZE; a constant where tiles fit."""
    if SIZE % BLOCK == 0:
        return tl.full((BLOCK,), 1, tl.int1)
    return offsets < SIZE


@triton.jit
def _store_offsets(offsets, SIZE: tl.constexpr, C: tl.constexpr, PLANAR: tl.constexpr, STORE_PLANAR: tl.constexpr):
    """Where in a row of the store the values lie that belong to those of the images."""
    if PLANAR == STORE_PLANAR:
        return offsets
    if PLANAR:
        return offsets * C
    return offsets % C * (SIZE // C) + offsets // C


@triton.jit
def _box_of_groups(
    offsets, top, left, bottom, right, LINE: tl.constexpr, STEP: tl.constexpr, GROUP: tl.constexpr
):  # fmt: skip
    """Which values lie in the box, and for the GROUP values of one wide load: is any inside, is any outside? int1 each.

    Lines are LINE values long, of which STEP belong to a pixel.
    """
    start = left * STEP
    width = tl.maximum(right - left, 0) * STEP
    height = tl.maximum(bottom - top, 0)
    group = offsets // GROUP
    if LINE % GROUP == 0:  # a group lies in one line
        y = group // (LINE // GROUP)
        x = group * GROUP - y * LINE - start
        width = tl.where((y - top).to(tl.uint32) < height.to(tl.uint32), width, 0)
        any_inside = (x < width) & (x + GROUP > 0) & (width > 0)
        any_outside = (x < 0) | (x + GROUP > width)
        inside = (offsets - (y * LINE + start)).to(tl.uint32) < width.to(tl.uint32)
    else:
        y = offsets // LINE
        x = offsets - y * LINE - start
        inside = ((y - top).to(tl.uint32) < height.to(tl.uint32)) & (x.to(tl.uint32) < width.to(tl.uint32))
        y_first = group * GROUP // LINE
        y_last = (group * GROUP + (GROUP - 1)) // LINE
        x_first = group * GROUP - y_first * LINE - start
        x_last = group * GROUP + (GROUP - 1) - y_last * LINE - start
        any_inside = (y_last >= top) & (y_first < bottom) & (((x_first < width) & (x_last >= 0)) | (y_first != y_last))
        any_outside = (
            (y_first != y_last) | (y_first < top) | (y_first >= bottom) | (x_first < 0) | (x_last >= width)
        )  # fmt: skip
    return inside, any_inside, any_outside


@triton.jit
def shown_tiles(
    images, out, store, norm, top, left, bottom, right, inside_real, first_tile, end_tile,
    SIZE: tl.constexpr, LINE: tl.constexpr, PLANES: tl.constexpr, BLOCK: tl.constexpr, STRIDE: tl.constexpr,
    C: tl.constexpr, PLANAR: tl.constexpr, STORE_PLANAR: tl.constexpr, INPLACE: tl.constexpr,
):  # fmt: skip
    """Eq. 7 likewise; `inside_real` is int1."""
    BITS: tl.constexpr = images.dtype.element_ty.primitive_bitwidth
    GROUP: tl.constexpr = 128 // BITS  # values of a 16-byte load
    POLICY: tl.constexpr = "evict_first" if PLANAR == STORE_PLANAR else ""
    STORE_PLANE: tl.constexpr = SIZE if STORE_PLANAR else 1
    channels = 0 if PLANAR else (first_tile * BLOCK + tl.arange(0, BLOCK)) % C
    if BITS > 8:
        scale = _load_constants(norm, channels, 0, PLANES)
        shift = _load_constants(norm, channels, 2, PLANES)
        if BITS == 32:
            scale_low = _load_constants(norm, channels, 1, PLANES)
            shift_low = _load_constants(norm, channels, 3, PLANES)
    tile = first_tile
    while tile < end_tile:
        offsets = tile * BLOCK + tl.arange(0, BLOCK)
        valid = _within(offsets, SIZE, BLOCK)
        inside, any_inside, any_outside = _box_of_groups(
            offsets, top, left, bottom, right, LINE, 1 if PLANAR else C, GROUP
        )
        shows_real = inside == inside_real
        need_real = tl.where(inside_real, any_inside, any_outside) & valid
        need_generated = tl.where(inside_real, any_outside, any_inside) & valid
        if INPLACE:  # a group that shows nothing else keeps what it is
            need_real = need_real & need_generated
        store_offsets = _store_offsets(offsets, SIZE, C, PLANAR, STORE_PLANAR)
        generated = _load_channels(store, store_offsets, need_generated, STORE_PLANE, PLANES, POLICY)
        real = _load_channels(images, offsets, need_real, SIZE, PLANES, POLICY)
        for c in tl.static_range(PLANES):
            if BITS == 8:
                shown = generated[c]
            elif BITS == 16:
                shown = tl.fma(generated[c].to(tl.float32), scale[c], shift[c]).to(out.dtype.element_ty)
            else:
                high, low = _normalize(generated[c].to(tl.float32), scale[c], scale_low[c], shift[c], shift_low[c])
                shown = high + low
            shown = tl.where(shows_real, real[c], shown)
            tl.store(out + c * SIZE + offsets, shown, mask=need_generated if INPLACE else valid)
        tile += STRIDE


@triton.jit
def _mix_tiles(
    images, out, store, norm, row, pixel, lam, top, left, bottom, right, inside_real, sample, program,
    C: tl.constexpr, H: tl.constexpr, W: tl.constexpr, BLOCK: tl.constexpr, STEPS: tl.constexpr,
    PLANAR: tl.constexpr, STORE_PLANAR: tl.constexpr, INPLACE: tl.constexpr,
):  # fmt: skip
    """Write the tiles of one program of a sample; `inside_real` is int32, 0 or 1."""
    SIZE: tl.constexpr = H * W if PLANAR else C * H * W
    LINE: tl.constexpr = W if PLANAR else C * W
    TILES: tl.constexpr = (SIZE + BLOCK - 1) // BLOCK
    STRIDE: tl.constexpr = stride_of(C, BLOCK, PLANAR)
    first_tile = program // STRIDE * (STEPS * STRIDE) + program % STRIDE
    end_tile = tl.minimum(first_tile + STEPS * STRIDE, TILES)
    images += sample.to(tl.int64) * (C * H * W)
    out += sample.to(tl.int64) * (C * H * W)
    store += row * (C * H * W)
    blended = (row >= 0) & pixel & (lam > 0.0) & (lam < 1.0)
    # Pixel-wise with λ = 0 or 1, and a sample without a row, show one image alone: what lies outside an empty box.
    alone = pixel | (row < 0)
    right = tl.where(alone, 0, right)
    bottom = tl.where(alone, 0, bottom)
    inside_real = tl.where(alone, ((row >= 0) & (lam == 0.0)).to(tl.int32), inside_real) > 0
    for first in tl.static_range(0, C if PLANAR else 1, 4):
        if blended:
            pixel_tiles(
                images + first * SIZE, out + first * SIZE, store + first * (SIZE if STORE_PLANAR else 1),
                norm + 4 * first, lam, first_tile, end_tile,
                SIZE, planes_of(C, first, PLANAR), BLOCK, STRIDE, C, PLANAR, STORE_PLANAR,
            )  # fmt: skip
        else:
            if (row >= 0) | (not INPLACE):
                shown_tiles(
                    images + first * SIZE, out + first * SIZE, store + first * (SIZE if STORE_PLANAR else 1),
                    norm + 4 * first, top, left, bottom, right, inside_real, first_tile, end_tile,
                    SIZE, LINE, planes_of(C, first, PLANAR), BLOCK, STRIDE, C, PLANAR, STORE_PLANAR, INPLACE,
                )  # fmt: skip


@triton.constexpr_function
def stride_of(C, BLOCK, PLANAR):
    """Tiles from one tile of a program to its next: where channels interleave, both begin with the same channel."""
    return 1 if PLANAR else C // math.gcd(C, BLOCK)


@triton.constexpr_function
def planes_of(C, first, PLANAR):
    """Planes that are mixed at once, from one of them on: at most 4, whose values all wait in registers."""
    return min(4, C - first) if PLANAR else 1


@triton.constexpr_function
def programs_of(C, H, W, BLOCK, STEPS, PLANAR):
    """Programs of a sample."""
    tiles = -(-H * W * (1 if PLANAR else C) // BLOCK)
    stride = stride_of(C, BLOCK, PLANAR)
    return stride * -(-tiles // (stride * STEPS))


@batch_kernel
def mix_store_kernel(
    images, out, index, labels, round, status, constants, plan,
    C: tl.constexpr, H: tl.constexpr, W: tl.constexpr, BLOCK: tl.constexpr, STEPS: tl.constexpr,
    PLANAR: tl.constexpr, STORE_PLANAR: tl.constexpr, INPLACE: tl.constexpr, ADVANCE: tl.constexpr,
    CHECK_LABELS: tl.constexpr, LAM_TABLE: tl.constexpr, BOX_INSIDE: tl.constexpr, BEST_ROW: tl.constexpr,
    WRITE_PLAN: tl.constexpr, PLACES: tl.constexpr,
):  # fmt: skip
    """Draw the plan of a sample and mix STEPS tiles of it; grid: samples × programs of a sample."""
    PROGRAMS: tl.constexpr = programs_of(C, H, W, BLOCK, STEPS, PLANAR)
    THREADS: tl.constexpr = BLOCK * images.dtype.element_ty.primitive_bitwidth // 128
    sample = tl.program_id(0) // PROGRAMS
    program = tl.program_id(0) % PROGRAMS
    sample_index = tl.load(index + sample)
    this_round = tl.load(round)
    if ADVANCE:
        ticket = take_ticket(status, this_round, THREADS)
    row, pixel, lam, top, left, bottom, right, inside_real, unknown_index, unknown_row, wrong_label = draw_mix(
        sample, sample_index, this_round, labels, constants, H, W, CHECK_LABELS, LAM_TABLE, BOX_INSIDE, BEST_ROW
    )
    if program == 0:
        count_wrong(status, unknown_index, unknown_row, wrong_label)
        if WRITE_PLAN:
            write_mix(
                plan, tl.num_programs(0) // PROGRAMS, sample,
                row, pixel, lam, top, left, bottom, right, inside_real, PLACES,
            )  # fmt: skip
    store = store_in(constants)
    norm = address_in(constants, AT_NORM, tl.float32)
    _mix_tiles(
        images, out, store, norm, row, pixel, lam, top, left, bottom, right, inside_real, sample, program,
        C, H, W, BLOCK, STEPS, PLANAR, STORE_PLANAR, INPLACE,
    )  # fmt: skip
    if ADVANCE:
        advance_round(round, this_round, status, ticket, THREADS)


@batch_kernel
def mix_plan_kernel(
    images, out, store, norm, plan_row, plan_pixel, plan_lam, plan_box, plan_inside_real, num_rows,
    C: tl.constexpr, H: tl.constexpr, W: tl.constexpr, BLOCK: tl.constexpr, STEPS: tl.constexpr,
    PLANAR: tl.constexpr, STORE_PLANAR: tl.constexpr, INPLACE: tl.constexpr,
):  # fmt: skip
    """Mix STEPS tiles of a sample by a plan that is given; grid: samples × programs of a sample."""
    PROGRAMS: tl.constexpr = programs_of(C, H, W, BLOCK, STEPS, PLANAR)
    sample = tl.program_id(0) // PROGRAMS
    row = tl.load(plan_row + sample)
    top, left, bottom, right = read_box(plan_box, sample)
    _mix_tiles(
        images, out, store, norm, tl.where(row < num_rows, row, -1),
        tl.load(plan_pixel + sample).to(tl.int1), tl.load(plan_lam + sample), top, left, bottom, right,
        tl.load(plan_inside_real + sample).to(tl.int32), sample, tl.program_id(0) % PROGRAMS,
        C, H, W, BLOCK, STEPS, PLANAR, STORE_PLANAR, INPLACE,
    )  # fmt: skip


def is_planar(tensor: Tensor, name: str = "images") -> bool:
    """Whether a batch is contiguous; False: channels_last. Any other strides raise ValueError."""
    if tensor.is_contiguous():
        return True
    if not tensor.is_contiguous(memory_format=torch.channels_last):
        raise ValueError(f"{name} must be contiguous or channels_last, got strides {tensor.stride()}.")
    return False


def tile_options(
    itemsize: int, channels: int, height: int, width: int, planar: bool, warp_size: int = WARP_SIZE
) -> dict[str, int]:
    """BLOCK, STEPS and num_warps of the mix of images with `itemsize` bytes per value."""
    block = BLOCKS[itemsize]
    tiles = triton.cdiv(height * width * (1 if planar else channels), block * stride_of(channels, block, planar))
    at_most = STEPS * BLOCKS[2] // block * (1 if planar else channels)
    steps = triton.cdiv(tiles, triton.cdiv(tiles, at_most))
    return {"BLOCK": block, "STEPS": steps, "num_warps": block * itemsize // 16 // warp_size}


def _launch_options(images: Tensor, out: Tensor) -> tuple[tuple[int], dict[str, int | bool]]:
    """The grid, and the constants that the kernel is compiled for."""
    batch, channels, height, width = images.shape
    planar = is_planar(images)
    tiles = tile_options(images.itemsize, channels, height, width, planar)
    return (batch * programs_of(channels, height, width, tiles["BLOCK"], tiles["STEPS"], planar),), {
        "C": channels,
        "H": height,
        "W": width,
        "PLANAR": planar,
        "INPLACE": out is images,
        "enable_fp_fusion": False,
        **tiles,
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
) -> Launched:
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
        What was launched.
    """
    grid, options = _launch_options(images, out)
    kernel = mix_store_kernel[grid](
        images, out, *drawn.arguments(plan), **drawn.flags(),
        WRITE_PLAN=plan is not None, PLACES=tuple(places), **options,
    )  # fmt: skip
    return Launched(kernel, grid)


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
