"""From the loader's raw bytes to the mixed training batch in one launch: plan, crops, resizing, mirroring, mix, write.

Bytes that must move per output value of b bytes: b written, and about scale² bytes of uint8 read, from one of the two
sources where a patch or an unmixed sample is shown, from both where pixels are mixed (scale: the side of a crop over
that of the output). Taps are single bytes by nature, neighbours share them in the first-level cache, and so it is the
number of load instructions that counts, not their width: a patch reads each pixel from the one source that shows there,
chosen by its address. A program takes STEPS tiles of BLOCK pixels of one sample with all channels: the weights of a tap
are worked out once for all channels, the plan and the crops once for all tiles.

Resized values are mixed in the range of bytes, in float32, and normalized last: λ·r + (1−λ)·g lies between r and g, so
nothing cancels.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .mix import Drawn, is_planar, threads_of
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
from .resample import clip_box, resample, taps_of, write_channels
from .specialization import batch_kernel

CROP_MIX_BLOCK = 256
CROP_MIX_STEPS = 8
CROP_MIX_WARPS = 4
# Without a limit of ours the compiler keeps to 64 and spills a few. With it, 5 programs fit a multiprocessor.
CROP_MIX_REGISTERS = 96


@triton.jit
def _crop_mix_tiles(
    images, out, store, norm, row, pixel, lam, top, left, bottom, right, inside_real,
    real_top, real_left, real_bottom, real_right, real_mirror, other_top, other_left, other_bottom, other_right,
    other_mirror, sample, program,
    C: tl.constexpr, H: tl.constexpr, W: tl.constexpr, STORE_H: tl.constexpr, STORE_W: tl.constexpr,
    OUT_H: tl.constexpr, OUT_W: tl.constexpr, BLOCK: tl.constexpr, STEPS: tl.constexpr,
    PLANAR_IN: tl.constexpr, PLANAR_OUT: tl.constexpr, STORE_PLANAR: tl.constexpr,
):  # fmt: skip
    """Write STEPS tiles of one sample; flags are int32, 0 or 1."""
    IN_STEP: tl.constexpr = 1 if PLANAR_IN else C
    IN_PLANE: tl.constexpr = H * W if PLANAR_IN else 1
    STORE_STEP: tl.constexpr = 1 if STORE_PLANAR else C
    STORE_PLANE: tl.constexpr = STORE_H * STORE_W if STORE_PLANAR else 1
    r_top, r_left, r_height, r_width = clip_box(real_top, real_left, real_bottom, real_right, H, W)
    g_top, g_left, g_height, g_width = clip_box(other_top, other_left, other_bottom, other_right, STORE_H, STORE_W)
    r_taps_y = taps_of(r_height, OUT_H)
    r_taps_x = taps_of(r_width, OUT_W)
    g_taps_y = taps_of(g_height, OUT_H)
    g_taps_x = taps_of(g_width, OUT_W)
    images += sample.to(tl.int64) * (C * H * W)
    out += sample.to(tl.int64) * (C * OUT_H * OUT_W)
    store += tl.maximum(row, 0) * (C * STORE_H * STORE_W)

    has_row = (row >= 0).to(tl.int32)
    # Pixel-wise with λ = 0 or 1 shows one image alone: everything outside an empty box.
    blend = has_row * (pixel & (lam > 0.0) & (lam < 1.0)).to(tl.int32)
    right = tl.where(pixel, 0, right)
    bottom = tl.where(pixel, 0, bottom)
    inside_real = tl.where(pixel, (lam == 0.0).to(tl.int32), inside_real)
    one_source = has_row * (1 - blend)

    for step in range(STEPS):
        start = (program * STEPS + step) * BLOCK
        offsets = start + tl.arange(0, BLOCK)
        valid = offsets < OUT_H * OUT_W
        y = offsets // OUT_W
        x = offsets - y * OUT_W
        r_x = tl.where(real_mirror > 0, OUT_W - 1 - x, x)
        g_x = tl.where(other_mirror > 0, OUT_W - 1 - x, x)
        # Which source shows at each pixel; where both are blended, the first pass takes the real image.
        inside = ((y >= top) & (y < bottom) & (x >= left) & (x < right)).to(tl.int32)
        generated = (inside != inside_real) & (one_source > 0)
        any_real = 1 - tl.min(generated.to(tl.int32), axis=0)
        any_generated = tl.max(generated.to(tl.int32), axis=0)
        taps_y = tl.maximum(any_real * r_taps_y, any_generated * g_taps_y)
        taps_x = tl.maximum(any_real * r_taps_x, any_generated * g_taps_x)
        for first in tl.static_range(0, C, 4):
            zero = tl.zeros((BLOCK,), tl.int32)
            base = tl.where(generated, store + first * STORE_PLANE + zero, images + first * IN_PLANE + zero)
            v0, v1, v2, v3 = resample(
                base, tl.where(generated, STORE_W * STORE_STEP, W * IN_STEP), tl.where(generated, STORE_STEP, IN_STEP),
                tl.where(generated, STORE_PLANE, IN_PLANE), tl.where(generated, g_top, r_top),
                tl.where(generated, g_left, r_left), tl.where(generated, g_height, r_height),
                tl.where(generated, g_width, r_width), y, tl.where(generated, g_x, r_x), taps_y, taps_x, valid,
                OUT_H, OUT_W, BLOCK, min(4, C - first),
            )  # fmt: skip
            if blend > 0:
                g0, g1, g2, g3 = resample(
                    store + first * STORE_PLANE, STORE_W * STORE_STEP, STORE_STEP, STORE_PLANE, g_top, g_left, g_height,
                    g_width, y, g_x, g_taps_y, g_taps_x, valid, OUT_H, OUT_W, BLOCK, min(4, C - first),
                )  # fmt: skip
                rest = 1.0 - lam
                v0 = lam * v0 + rest * g0
                v1 = lam * v1 + rest * g1
                v2 = lam * v2 + rest * g2
                v3 = lam * v3 + rest * g3
            write_channels(
                out, start, v0, v1, v2, v3, norm, first, OUT_H * OUT_W, PLANAR_OUT, C, BLOCK, min(4, C - first)
            )  # fmt: skip


@batch_kernel
def crop_mix_store_kernel(
    images, out, index, labels, round, status, constants, plan,
    C: tl.constexpr, H: tl.constexpr, W: tl.constexpr, STORE_H: tl.constexpr, STORE_W: tl.constexpr,
    OUT_H: tl.constexpr, OUT_W: tl.constexpr, BLOCK: tl.constexpr, STEPS: tl.constexpr, THREADS: tl.constexpr,
    PLANAR_IN: tl.constexpr, PLANAR_OUT: tl.constexpr, STORE_PLANAR: tl.constexpr,
    CENTRAL: tl.constexpr, COUNTERPART_CENTRAL: tl.constexpr, SAME_CROP: tl.constexpr, ADVANCE: tl.constexpr,
    CHECK_LABELS: tl.constexpr, LAM_TABLE: tl.constexpr, BOX_INSIDE: tl.constexpr, BEST_ROW: tl.constexpr,
    WRITE_PLAN: tl.constexpr, PLACES: tl.constexpr,
):  # fmt: skip
    """Draw plan and crops of a sample and write STEPS tiles of it; grid: samples × programs of a sample."""
    PROGRAMS: tl.constexpr = (OUT_H * OUT_W + BLOCK * STEPS - 1) // (BLOCK * STEPS)
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
    _crop_mix_tiles(
        images, out, store_in(constants),
        address_in(constants, AT_NORM, tl.float32), row, pixel, lam, top, left, bottom, right, inside_real,
        r_top, r_left, r_bottom, r_right, mirror, g_top, g_left, g_bottom, g_right, other_mirror, sample, program,
        C, H, W, STORE_H, STORE_W, OUT_H, OUT_W, BLOCK, STEPS, PLANAR_IN, PLANAR_OUT, STORE_PLANAR,
    )  # fmt: skip
    if ADVANCE:
        advance_round(round, this_round, status, ticket, THREADS)


@batch_kernel
def crop_mix_plan_kernel(
    images, out, store, norm, plan_row, plan_pixel, plan_lam, plan_box, plan_inside_real,
    plan_crop, plan_mirror, plan_counterpart_crop, plan_counterpart_mirror, num_rows,
    C: tl.constexpr, H: tl.constexpr, W: tl.constexpr, STORE_H: tl.constexpr, STORE_W: tl.constexpr,
    OUT_H: tl.constexpr, OUT_W: tl.constexpr, BLOCK: tl.constexpr, STEPS: tl.constexpr,
    PLANAR_IN: tl.constexpr, PLANAR_OUT: tl.constexpr, STORE_PLANAR: tl.constexpr,
):  # fmt: skip
    """Crop and mix by a plan that is given; grid: samples × programs of a sample."""
    PROGRAMS: tl.constexpr = (OUT_H * OUT_W + BLOCK * STEPS - 1) // (BLOCK * STEPS)
    sample = tl.program_id(0) // PROGRAMS
    row = tl.load(plan_row + sample)
    top, left, bottom, right = read_box(plan_box, sample)
    r_top, r_left, r_bottom, r_right = read_box(plan_crop, sample)
    g_top, g_left, g_bottom, g_right = read_box(plan_counterpart_crop, sample)
    _crop_mix_tiles(
        images, out, store, norm, tl.where(row < num_rows, row, -1),
        tl.load(plan_pixel + sample).to(tl.int1), tl.load(plan_lam + sample), top, left, bottom, right,
        tl.load(plan_inside_real + sample).to(tl.int32),
        r_top, r_left, r_bottom, r_right, tl.load(plan_mirror + sample).to(tl.int32),
        g_top, g_left, g_bottom, g_right, tl.load(plan_counterpart_mirror + sample).to(tl.int32),
        sample, tl.program_id(0) % PROGRAMS,
        C, H, W, STORE_H, STORE_W, OUT_H, OUT_W, BLOCK, STEPS, PLANAR_IN, PLANAR_OUT, STORE_PLANAR,
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
    programs = triton.cdiv(out_height * out_width, CROP_MIX_BLOCK * CROP_MIX_STEPS)
    return (batch * programs,), {
        "C": channels,
        "H": height,
        "W": width,
        "STORE_H": store_size[0],
        "STORE_W": store_size[1],
        "OUT_H": out_height,
        "OUT_W": out_width,
        "BLOCK": CROP_MIX_BLOCK,
        "STEPS": CROP_MIX_STEPS,
        "PLANAR_IN": is_planar(images),
        "PLANAR_OUT": is_planar(out, "out"),
        "STORE_PLANAR": store_planar,
        "num_warps": CROP_MIX_WARPS,
        "enable_fp_fusion": False,
        **({} if torch.version.hip else {"maxnreg": CROP_MIX_REGISTERS}),
    }


def launch_crop_mix_store(
    images: Tensor, out: Tensor, store_size: Sequence[int], drawn: Drawn, crops: DrawnCrops,
    plan: Tensor | None = None, places: Sequence[int] = (),
) -> Any:  # fmt: skip
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
        The compiled kernel that was launched, or None in Triton's interpreter.
    """
    grid, options = _launch_options(images, out, store_size, drawn.store_planar)
    return crop_mix_store_kernel[grid](
        images, out, *drawn.arguments(plan), THREADS=threads_of(CROP_MIX_WARPS), CENTRAL=tuple(crops.central),
        COUNTERPART_CENTRAL=tuple(crops.counterpart_central), SAME_CROP=crops.same,
        WRITE_PLAN=plan is not None, PLACES=tuple(places), **{**drawn.flags(), **options},
    )  # fmt: skip


def launch_crop_mix_plan(images: Tensor, out: Tensor, store: Tensor, norm: Tensor, plan: Sequence[Tensor]) -> Any:
    """Write the batch that is cropped and mixed by a given plan of nine tensors; arguments as in `launch_mix_plan`."""
    grid, options = _launch_options(images, out, store.shape[-2:], is_planar(store, "store"))
    return crop_mix_plan_kernel[grid](images, out, store, norm, *plan, store.shape[0], **options)
