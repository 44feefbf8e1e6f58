"""From the loader's raw bytes to the mixed training batch in one launch: plan, crops, resizing, mirroring, mix, write.

Bytes that must move per output value of b bytes: b written, and about scale² bytes of uint8 read, from one of the two
sources where a patch or an unmixed sample is shown, from both where pixels are mixed (scale: the side of a crop over
that of the output). Taps are single bytes by nature, and it is the number of instructions that counts: a program of one
warp goes down ROWS rows of a chunk of columns of one sample, with all channels, so that plan, crops and whatever
belongs to a column are worked out once, and each line of a source is resampled along x once.

At the edges of a patch a program's rows are taken in up to three bands: above, beside and below it. A band reads one
source or both; beside the patch, columns that a source does not show take the address of one that it does.

Resized values are mixed in the range of bytes, in float32, and normalized last: λ·r + (1−λ)·g lies between r and g, so
nothing cancels. Real and counterpart are weighted sums of two vectors each, λ is put into their weights, and a weight
of 1 or 0 shows one image alone, exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .mix import WARP_SIZE, Drawn, is_planar
from .plan import (
    AT_NORM,
    STREAM_COUNTERPART_CROP,
    STREAM_CROP,
    address_in,
    advance_round,
    count_wrong,
    draw_crop,
    draw_mirrors,
    draw_mix,
    read_box,
    store_in,
    take_ticket,
    write_crops,
    write_mix,
)
from .resample import (
    LANES,
    add_weighted,
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
from .specialization import Launched, batch_kernel

CROP_MIX_ROWS = 16
CROP_MIX_WARPS = 1
# Pixels of a thread, and the registers that all channels of them need for two sources at once: 10 warps fit a
# multiprocessor. Without a limit the compiler takes up to 250, and 8 fit.
CROP_MIX_WIDE = 4
CROP_MIX_REGISTERS = 200
CROP_MIX_WIDE_MANY_CHANNELS = 2
CROP_MIX_REGISTERS_MANY_CHANNELS = 160


def tile_of(channels: int) -> tuple[int, int]:
    """WIDE for images of so many channels, and the limit of registers per thread."""
    if channels < 4:
        return CROP_MIX_WIDE, CROP_MIX_REGISTERS
    return CROP_MIX_WIDE_MANY_CHANNELS, CROP_MIX_REGISTERS_MANY_CHANNELS


@triton.jit
def _shown(x, inside, keep_inside, chunk_begin, left, right):
    """Columns `x`, but in place of those on the other side of the patch's edge one on this side, in the same chunk."""
    beside = tl.where(left > chunk_begin, left - 1, right)
    return tl.where(keep_inside, tl.minimum(tl.maximum(x, left), right - 1), tl.where(inside, beside, x))


@triton.jit
def crop_mix_band(
    images, out, store, norm, lam, use_real, use_generated, r_height, r_width, r_taps, r_first, r_a, r_b,
    g_height, g_width, g_taps, g_first, g_a, g_b, begin, end, chunk, channel,
    C: tl.constexpr, ROW: tl.constexpr, STEP: tl.constexpr, PLANE: tl.constexpr, STORE_ROW: tl.constexpr,
    STORE_STEP: tl.constexpr, STORE_PLANE: tl.constexpr, OUT_H: tl.constexpr, OUT_W: tl.constexpr,
    PLANAR_OUT: tl.constexpr, COUNT: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Write COUNT channels of rows `begin` to `end` of a chunk, `lam` for each pixel the weight of the real image."""
    real = (first_line(begin, r_height, OUT_H), zeros_for(lam, COUNT), zeros_for(lam, COUNT), 0.0, 0.0)
    generated = (first_line(begin, g_height, OUT_H), zeros_for(lam, COUNT), zeros_for(lam, COUNT), 0.0, 0.0)
    r_reciprocals = reciprocals_of(r_height, r_width, OUT_W)
    g_reciprocals = reciprocals_of(g_height, g_width, OUT_W)
    affine = affine_for(norm, channel, COUNT)
    y = begin
    while y < end:
        values = zeros_for(lam, COUNT)
        if use_real:
            real, weight, following_weight = resample_row(
                real,
                images,
                y,
                r_height,
                r_reciprocals,
                r_taps,
                r_first,
                r_a,
                r_b,
                OUT_H,
                OUT_W,
                ROW,
                STEP,
                PLANE,
                COUNT,
            )
            values = sum_of(lam * weight, real[1], lam * following_weight, real[2], COUNT)
        if use_generated:
            generated, weight, following_weight = resample_row(
                generated, store, y, g_height, g_reciprocals, g_taps, g_first, g_a, g_b,
                OUT_H, OUT_W, STORE_ROW, STORE_STEP, STORE_PLANE, COUNT,
            )  # fmt: skip
            rest = 1.0 - lam
            values = add_weighted(rest * weight, generated[1], values, COUNT)
            values = add_weighted(rest * following_weight, generated[2], values, COUNT)
        write_row(out, y, chunk, values, affine, channel, OUT_H, OUT_W, C, PLANAR_OUT, COUNT, WIDE)
        y += 1


@triton.jit
def _crop_mix_rows(
    images, out, store, norm, row, pixel, lam, top, left, bottom, right, inside_real,
    real_top, real_left, real_bottom, real_right, real_mirror, other_top, other_left, other_bottom, other_right,
    other_mirror, sample, program,
    C: tl.constexpr, H: tl.constexpr, W: tl.constexpr, STORE_H: tl.constexpr, STORE_W: tl.constexpr,
    OUT_H: tl.constexpr, OUT_W: tl.constexpr, ROWS: tl.constexpr, WIDE: tl.constexpr,
    PLANAR_IN: tl.constexpr, PLANAR_OUT: tl.constexpr, STORE_PLANAR: tl.constexpr,
):  # fmt: skip
    """Write ROWS rows of a chunk of one sample; flags are int32, 0 or 1."""
    CHUNKS: tl.constexpr = (OUT_W + LANES * WIDE - 1) // (LANES * WIDE)
    STEP: tl.constexpr = 1 if PLANAR_IN else C
    PLANE: tl.constexpr = H * W if PLANAR_IN else 1
    STORE_STEP: tl.constexpr = 1 if STORE_PLANAR else C
    STORE_PLANE: tl.constexpr = STORE_H * STORE_W if STORE_PLANAR else 1
    r_top, r_left, r_height, r_width = clip_box(real_top, real_left, real_bottom, real_right, H, W)
    g_top, g_left, g_height, g_width = clip_box(other_top, other_left, other_bottom, other_right, STORE_H, STORE_W)
    images += sample.to(tl.int64) * (C * H * W) + (r_top * W + r_left) * STEP
    out += sample.to(tl.int64) * (C * OUT_H * OUT_W)
    store += tl.maximum(row, 0) * (C * STORE_H * STORE_W) + (g_top * STORE_W + g_left) * STORE_STEP
    chunk = program % CHUNKS
    begin = program // CHUNKS * ROWS
    end = tl.minimum(begin + ROWS, OUT_H)
    x = pixels_of(chunk, OUT_W, WIDE)

    # The weights of the real image outside and inside the patch.
    mixed = row >= 0
    patch = mixed & (pixel == 0)
    lam_inside = inside_real.to(tl.float32)
    lam_outside = tl.where(mixed, tl.where(pixel, lam, 1.0 - lam_inside), 1.0)
    chunk_begin = chunk * (LANES * WIDE)
    chunk_end = tl.minimum(chunk_begin + LANES * WIDE, OUT_W)
    reached = patch & (left < chunk_end) & (right > chunk_begin)
    top = tl.where(reached, top, end)
    bottom = tl.where(reached, bottom, end)
    covered = (left <= chunk_begin) & (right >= chunk_end)
    while begin < end:
        beside = (begin >= top) & (begin < bottom)
        band_end = tl.minimum(tl.where(beside, bottom, tl.where(begin < top, top, end)), end)
        both = beside & (covered == 0)
        inside = (x >= left) & (x < right)
        one = tl.where(beside, lam_inside, lam_outside)
        lam_x = tl.where(both, tl.where(inside, lam_inside, lam_outside), one + tl.zeros(x.shape, tl.float32))
        use_real = both | (one > 0.0)
        use_generated = both | (one < 1.0)
        r_x = tl.where(both, _shown(x, inside, inside_real > 0, chunk_begin, left, right), x)
        g_x = tl.where(both, _shown(x, inside, inside_real == 0, chunk_begin, left, right), x)
        r_x = tl.where(real_mirror > 0, OUT_W - 1 - r_x, r_x)
        g_x = tl.where(other_mirror > 0, OUT_W - 1 - g_x, g_x)
        r_taps, r_first, r_a, r_b = taps_along(r_x, r_width, OUT_W)
        g_taps, g_first, g_a, g_b = taps_along(g_x, g_width, OUT_W)
        for channel in tl.static_range(0, C, 4):
            crop_mix_band(
                images + channel * PLANE, out, store + channel * STORE_PLANE, norm, lam_x, use_real, use_generated,
                r_height, r_width, r_taps, r_first, r_a, r_b, g_height, g_width, g_taps, g_first, g_a, g_b,
                begin, band_end, chunk, channel, C, W * STEP, STEP, PLANE, STORE_W * STORE_STEP, STORE_STEP,
                STORE_PLANE, OUT_H, OUT_W, PLANAR_OUT, min(4, C - channel), WIDE,
            )  # fmt: skip
        begin = band_end


@batch_kernel
def crop_mix_store_kernel(
    images, out, index, labels, round, status, constants, plan,
    C: tl.constexpr, H: tl.constexpr, W: tl.constexpr, STORE_H: tl.constexpr, STORE_W: tl.constexpr,
    OUT_H: tl.constexpr, OUT_W: tl.constexpr, ROWS: tl.constexpr, WIDE: tl.constexpr, THREADS: tl.constexpr,
    PLANAR_IN: tl.constexpr, PLANAR_OUT: tl.constexpr, STORE_PLANAR: tl.constexpr,
    CENTRAL: tl.constexpr, COUNTERPART_CENTRAL: tl.constexpr, SAME_CROP: tl.constexpr, ADVANCE: tl.constexpr,
    CHECK_LABELS: tl.constexpr, LAM_TABLE: tl.constexpr, BOX_INSIDE: tl.constexpr, BEST_ROW: tl.constexpr,
    WRITE_PLAN: tl.constexpr, PLACES: tl.constexpr,
):  # fmt: skip
    """Draw plan and crops of a sample and write ROWS rows of a chunk of it; grid: samples × programs."""
    PROGRAMS: tl.constexpr = (OUT_H + ROWS - 1) // ROWS * ((OUT_W + LANES * WIDE - 1) // (LANES * WIDE))
    sample = tl.program_id(0) // PROGRAMS
    program = tl.program_id(0) % PROGRAMS
    sample_index = tl.load(index + sample)
    this_round = tl.load(round)
    if ADVANCE:
        ticket = take_ticket(status, this_round, THREADS)
    row, pixel, lam, top, left, bottom, right, inside_real, unknown_index, unknown_row, wrong_label = draw_mix(
        sample, sample_index, this_round, labels, constants,
        OUT_H, OUT_W, CHECK_LABELS, LAM_TABLE, BOX_INSIDE, BEST_ROW,
    )  # fmt: skip
    mirror, other_mirror = draw_mirrors(sample_index, this_round, constants)
    r_top, r_left, r_bottom, r_right = draw_crop(sample_index, this_round, constants, CENTRAL, H, W, STREAM_CROP)
    if SAME_CROP:
        other_mirror = mirror
        g_top, g_left, g_bottom, g_right = r_top, r_left, r_bottom, r_right
    else:
        g_top, g_left, g_bottom, g_right = draw_crop(
            sample_index, this_round, constants, COUNTERPART_CENTRAL, STORE_H, STORE_W, STREAM_COUNTERPART_CROP
        )
    if program == 0:
        count_wrong(status, unknown_index, unknown_row, wrong_label)
        if WRITE_PLAN:
            batch = tl.num_programs(0) // PROGRAMS
            write_mix(plan, batch, sample, row, pixel, lam, top, left, bottom, right, inside_real, PLACES)
            write_crops(
                plan, batch, sample, r_top, r_left, r_bottom, r_right, mirror,
                g_top, g_left, g_bottom, g_right, other_mirror, PLACES,
            )  # fmt: skip
    if ADVANCE:  # the ticket came back while crops were drawn; kept any longer, it would cost registers
        advance_round(round, this_round, status, ticket, THREADS)
    _crop_mix_rows(
        images, out, store_in(constants),
        address_in(constants, AT_NORM, tl.float32), row, pixel, lam, top, left, bottom, right, inside_real,
        r_top, r_left, r_bottom, r_right, mirror, g_top, g_left, g_bottom, g_right, other_mirror, sample, program,
        C, H, W, STORE_H, STORE_W, OUT_H, OUT_W, ROWS, WIDE, PLANAR_IN, PLANAR_OUT, STORE_PLANAR,
    )  # fmt: skip


@batch_kernel
def crop_mix_plan_kernel(
    images, out, store, norm, plan_row, plan_pixel, plan_lam, plan_box, plan_inside_real,
    plan_crop, plan_mirror, plan_counterpart_crop, plan_counterpart_mirror, num_rows,
    C: tl.constexpr, H: tl.constexpr, W: tl.constexpr, STORE_H: tl.constexpr, STORE_W: tl.constexpr,
    OUT_H: tl.constexpr, OUT_W: tl.constexpr, ROWS: tl.constexpr, WIDE: tl.constexpr,
    PLANAR_IN: tl.constexpr, PLANAR_OUT: tl.constexpr, STORE_PLANAR: tl.constexpr,
):  # fmt: skip
    """Crop and mix by a plan that is given; grid: samples × programs."""
    PROGRAMS: tl.constexpr = (OUT_H + ROWS - 1) // ROWS * ((OUT_W + LANES * WIDE - 1) // (LANES * WIDE))
    sample = tl.program_id(0) // PROGRAMS
    row = tl.load(plan_row + sample)
    top, left, bottom, right = read_box(plan_box, sample)
    r_top, r_left, r_bottom, r_right = read_box(plan_crop, sample)
    g_top, g_left, g_bottom, g_right = read_box(plan_counterpart_crop, sample)
    _crop_mix_rows(
        images, out, store, norm, tl.where(row < num_rows, row, -1),
        tl.load(plan_pixel + sample).to(tl.int1), tl.load(plan_lam + sample), top, left, bottom, right,
        tl.load(plan_inside_real + sample).to(tl.int32),
        r_top, r_left, r_bottom, r_right, tl.load(plan_mirror + sample).to(tl.int32),
        g_top, g_left, g_bottom, g_right, tl.load(plan_counterpart_mirror + sample).to(tl.int32),
        sample, tl.program_id(0) % PROGRAMS,
        C, H, W, STORE_H, STORE_W, OUT_H, OUT_W, ROWS, WIDE, PLANAR_IN, PLANAR_OUT, STORE_PLANAR,
    )  # fmt: skip


class DrawnCrops(NamedTuple):
    """What the crops of a batch are drawn from, beside the constants.

    Attributes:
        central: (top, left, bottom, right) of an image's crop where no attempt fits.
        counterpart_central: the same of a counterpart's.
        same: a counterpart is cropped and mirrored as its image, which must be of the store's size.
    """

    central: Sequence[int]
    counterpart_central: Sequence[int]
    same: bool


def _launch_options(
    images: Tensor, out: Tensor, store_size: Sequence[int], store_planar: bool
) -> tuple[tuple[int], dict[str, int | bool]]:
    batch, channels, height, width = images.shape
    out_height, out_width = out.shape[-2:]
    wide, registers = tile_of(channels)
    programs = triton.cdiv(out_height, CROP_MIX_ROWS) * triton.cdiv(out_width, LANES.value * wide)
    return (batch * programs,), {
        "C": channels,
        "H": height,
        "W": width,
        "STORE_H": store_size[0],
        "STORE_W": store_size[1],
        "OUT_H": out_height,
        "OUT_W": out_width,
        "ROWS": CROP_MIX_ROWS,
        "WIDE": wide,
        "PLANAR_IN": is_planar(images),
        "PLANAR_OUT": is_planar(out, "out"),
        "STORE_PLANAR": store_planar,
        "num_warps": CROP_MIX_WARPS,
        "enable_fp_fusion": False,
        **({} if torch.version.hip else {"maxnreg": registers}),
    }


def launch_crop_mix_store(
    images: Tensor, out: Tensor, store_size: Sequence[int], drawn: Drawn, crops: DrawnCrops,
    plan: Tensor | None = None, places: Sequence[int] = (),
) -> Launched:  # fmt: skip
    """Draw plan and crops of every sample and write the cropped and mixed batch, in one launch on the current stream.

    Args:
        images: uint8 [B, C, H, W], contiguous or channels_last, B above 0.
        out: [B, C, h, w] uint8 or floating, contiguous or channels_last.
        store_size: (H', W') of the store's rows of C × H' × W' bytes.
        drawn: what the plan is drawn from; its boxes are drawn for h × w.
        crops: what the crops are drawn from.
        plan: as in `launch_mix_store`, with the further fields crop (int32 × 4), mirror (bool), counterpart_crop
            (int32 × 4) and counterpart_mirror (bool).
        places: as in `launch_mix_store`.

    Returns:
        What was launched.
    """
    grid, options = _launch_options(images, out, store_size, drawn.store_planar)
    kernel = crop_mix_store_kernel[grid](
        images, out, *drawn.arguments(plan), THREADS=CROP_MIX_WARPS * WARP_SIZE, CENTRAL=tuple(crops.central),
        COUNTERPART_CENTRAL=tuple(crops.counterpart_central), SAME_CROP=crops.same,
        WRITE_PLAN=plan is not None, PLACES=tuple(places), **{**drawn.flags(), **options},
    )  # fmt: skip
    return Launched(kernel, grid)


def launch_crop_mix_plan(images: Tensor, out: Tensor, store: Tensor, norm: Tensor, plan: Sequence[Tensor]) -> Any:
    """Write the batch that is cropped and mixed by a given plan of nine tensors; arguments as in `launch_mix_plan`."""
    grid, options = _launch_options(images, out, store.shape[-2:], is_planar(store, "store"))
    return crop_mix_plan_kernel[grid](images, out, store, norm, *plan, store.shape[0], **options)
