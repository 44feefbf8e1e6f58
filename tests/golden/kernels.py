"""Kernels that draw as those of the package do, and do nothing else."""

from __future__ import annotations

import triton
import triton.language as tl

from diffcore_gpu.kernels.plan import (
    STREAM_COUNTERPART_CROP,
    STREAM_CROP,
    draw_crop,
    draw_mirrors,
    draw_mix,
    write_crops,
    write_mix,
)


@triton.jit
def plan_kernel(
    index, round, constants, plan, H: tl.constexpr, W: tl.constexpr, LAM_TABLE: tl.constexpr, BOX_INSIDE: tl.constexpr,
    BEST_ROW: tl.constexpr, PLACES: tl.constexpr,
):  # fmt: skip
    """Write the plan of one sample; grid: samples."""
    sample = tl.program_id(0)
    row, pixel, lam, top, left, bottom, right, inside_real, _index, _row, _label = draw_mix(
        sample, tl.load(index + sample), tl.load(round), index, constants, H, W, False, LAM_TABLE, BOX_INSIDE, BEST_ROW
    )
    write_mix(
        plan, tl.num_programs(0), sample, row, pixel, lam, top, left, bottom, right, inside_real, PLACES
    )  # fmt: skip


@triton.jit
def crop_kernel(
    index, round, constants, plan, H: tl.constexpr, W: tl.constexpr, OTHER_H: tl.constexpr, OTHER_W: tl.constexpr,
    CENTRAL: tl.constexpr, OTHER_CENTRAL: tl.constexpr, PLACES: tl.constexpr,
):  # fmt: skip
    """Write the crops of one sample and its counterpart; grid: samples."""
    sample = tl.program_id(0)
    sample_index = tl.load(index + sample)
    this_round = tl.load(round)
    top, left, bottom, right = draw_crop(sample_index, this_round, constants, CENTRAL, H, W, STREAM_CROP)
    other_top, other_left, other_bottom, other_right = draw_crop(
        sample_index, this_round, constants, OTHER_CENTRAL, OTHER_H, OTHER_W, STREAM_COUNTERPART_CROP
    )
    mirror, other_mirror = draw_mirrors(sample_index, this_round, constants)
    write_crops(
        plan, tl.num_programs(0), sample, top, left, bottom, right, mirror, other_top, other_left, other_bottom,
        other_right, other_mirror, PLACES,
    )  # fmt: skip
