"""Crop, resize, mirror, normalize and mix on the CPU in compiled code, on torch's threads; it needs numba.

torch resizes an image in some ten operators and reads it several times; `diffcore_gpu.ops.crop_mix.numba_kernels` makes
each line of the output from the few lines of the source that it needs, in memory that the cache holds.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from diffcore_gpu.ops.mix.cpu_numba import CompiledMix
from diffcore_gpu.ops.runtime.arguments import DrawArguments
from diffcore_gpu.ops.runtime.numba_code import compiled, division, numba_module, run_on_threads
from diffcore_gpu.plan import MixPlan, Pairs
from diffcore_gpu.plan.crops import central_crop
from diffcore_gpu.plan.fields import PLAN, PLAN_WITH_CROPS

_MODULE = "diffcore_gpu.ops.crop_mix.numba_kernels"
_DRAW = "diffcore_gpu.ops.crop_mix.numba_draw"

_FUNCTIONS = {
    torch.float32: "crop_float",
    torch.float16: "crop_half",
    torch.bfloat16: "crop_bfloat",
    torch.uint8: "crop_byte",
}

_VALUES_PER_THREAD = 1 << 14
"""A thread for each so many values of the output: below, to wake another takes longer than it saves."""


class CropDraw(Protocol):
    """What the crops of a batch are drawn from."""

    @property
    def side_table(self) -> Tensor:
        """float32 [2, 65536] of `RandomResizedCropMirror.side_table`."""

    @property
    def parameters(self) -> Sequence[int]:
        """The integers of its `CropParameters`."""

    @property
    def ratio(self) -> Sequence[float]:
        """Its interval of aspect ratios."""

    @property
    def same(self) -> bool:
        """A counterpart is cropped and mirrored as its image."""


def crops_compiled() -> bool:
    """Whether numba is there to crop with; without it torch operators do it, in a multiple of the time."""
    return numba_module(_MODULE) is not None


def make_ready(dtype: torch.dtype) -> None:
    """Load or compile what writes an output of a dtype, so that the call itself takes no time for it."""
    compiled(_MODULE, _FUNCTIONS[dtype])


def draw_compiled(
    drawn: DrawArguments, crops: CropDraw, size: Sequence[int], image_size: Sequence[int],
    counterpart_size: Sequence[int],
) -> MixPlan:  # fmt: skip
    """The plan of a batch with its crops, as `diffcore_gpu.plan.draw` draws them.

    Args:
        drawn: what the plan is drawn from, on the CPU.
        crops: what the crops are drawn from.
        size: (h, w) of the output.
        image_size: (H, W) of the images.
        counterpart_size: (H', W') of the rows.

    Raises:
        ValueError: as in `DrawArguments.draw`.
    """
    batch = drawn.indices.shape[0]
    fields = list(PLAN_WITH_CROPS.views(PLAN_WITH_CROPS.empty(batch), batch))
    pairs = Pairs(drawn.pair_ptr, drawn.pair_row, drawn.num_rows)
    of_mix = CompiledMix((1, *size), [], pairs, drawn.row_label, drawn.lam_table, drawn.norm, drawn.parameters)
    of_mix.draw(drawn.indices, drawn.labels, drawn.round, drawn.seed, fields[: len(PLAN.fields)])
    index, side_table = drawn.indices.contiguous(), crops.side_table.contiguous()
    values = [
        batch, index.data_ptr(), drawn.round.data_ptr(), drawn.seed, *crops.parameters, side_table.data_ptr(),
        crops.same, *(field.data_ptr() for field in fields[len(PLAN.fields) :]),
        *image_size, *central_crop(image_size[0], image_size[1], crops.ratio),
        *counterpart_size, *central_crop(counterpart_size[0], counterpart_size[1], crops.ratio),
    ]  # fmt: skip
    arguments = (ctypes.c_int64 * len(values))(*values)
    run_on_threads(compiled(_DRAW, "draw_crops").address, ctypes.addressof(arguments), 1)
    return MixPlan(*fields)


def _addresses(row: Tensor, shards: Sequence[Tensor]) -> npt.NDArray[np.int64]:
    """Where the rows of a plan lie in memory, as int64 [B]; 0 for a row of −1."""
    rows = row.numpy()
    addresses = np.zeros(rows.shape, dtype=np.int64)
    start = 0
    for shard in shards:
        held = (rows >= start) & (rows < start + shard.shape[0])
        addresses[held] = shard.data_ptr() + (rows[held] - start) * shard.stride(0)
        start += shard.shape[0]
    return addresses


def crop_mix_compiled(images: Tensor, out: Tensor, shards: Sequence[Tensor], norm: Tensor, plan: MixPlan) -> None:
    """Crop, resize and mirror both images of each sample, mix them by eqs. 6–8, normalize and write.

    Args:
        images: uint8 [B, C, H, W], contiguous or channels_last.
        out: [B, C, h, w] float32, float16, bfloat16 or uint8 (not normalized), contiguous or channels_last.
        shards: contiguous uint8 [n_i, C, H', W'] each; the rows of the plan count through them.
        norm: float32 [2, C, 4] of `affine_of`.
        plan: the plan of the batch with its crops, on the CPU.
    """
    row, *mix, crop, mirror, counterpart_crop, counterpart_mirror = plan.tensors()
    _crop(
        images, out, norm, crop, mirror, _addresses(row, shards), (shards[0] if shards else images).shape[-2:],
        (counterpart_crop, counterpart_mirror, *mix),
    )  # fmt: skip


def resized_crop_compiled(images: Tensor, out: Tensor, norm: Tensor, crop: Tensor, mirror: Tensor) -> None:
    """Crop, resize and mirror each image, normalize and write.

    Args:
        images: as in `crop_mix_compiled`.
        out: likewise.
        norm: likewise.
        crop: int32 [B, 4].
        mirror: bool [B].
    """
    none = np.zeros(images.shape[0], dtype=np.int64)
    _crop(images, out, norm, crop, mirror, none, images.shape[-2:], ())


def _crop(
    images: Tensor, out: Tensor, norm: Tensor, crop: Tensor, mirror: Tensor,
    counterparts: npt.NDArray[np.int64], counterpart_size: Sequence[int], mix: Sequence[Tensor],
) -> None:  # fmt: skip
    """Lay out the arguments and run; `mix`: what mixed samples alone read, in the order of `Argument`, or ()."""
    if not out.numel():
        return
    kernels = numba_module(_MODULE)
    assert kernels is not None
    batch, channels, height, width = out.shape
    threads, lines = division(out, _VALUES_PER_THREAD)
    source_height, source_width = (max(sides) for sides in zip(images.shape[-2:], counterpart_size, strict=True))
    held = [field.contiguous() for field in (crop, mirror, *mix)]  # as long as their addresses are used
    crop_at, mirror_at, *mix_at = (field.data_ptr() for field in held)
    size = kernels.layout(height, width, source_height, source_width, channels).size
    scratch = torch.empty(threads * size + 64, dtype=torch.uint8)  # aligned to lines of the cache
    values = [
        batch, channels, height, width, lines, out.data_ptr(), not out.is_contiguous(), norm.data_ptr(), 0, 0,
        (scratch.data_ptr() + 63) // 64 * 64, images.data_ptr(), not images.is_contiguous(), *images.shape[-2:],
        crop_at, mirror_at, counterparts.ctypes.data, *counterpart_size, *(mix_at or [0] * 6),
    ]  # fmt: skip
    arguments = (ctypes.c_int64 * len(values))(*values)
    run_on_threads(compiled(_MODULE, _FUNCTIONS[out.dtype]).address, ctypes.addressof(arguments), threads)
