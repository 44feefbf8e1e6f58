"""Draw the crops of a batch on the CPU as a function that numba compiles: `diffcore_gpu.plan.draw.draw_crop`.

It takes the address of an array of int64 that holds the arguments at the places named below. What it calls of
`ops/mix/numba_kernels.py` defines the stream of random numbers and is fixed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import carray, njit

from diffcore_gpu.kernels.spec import (
    CROP_ATTEMPTS,
    GRID_BITS,
    STREAM_COUNTERPART_CROP,
    STREAM_CROP,
    STREAM_MIRROR,
    TABLE_BITS,
)
from diffcore_gpu.ops.mix.numba_kernels import bernoulli, philox, randint
from diffcore_gpu.ops.runtime.numba_primitives import pointer


class _Places(NamedTuple):
    """Where each argument stands. Addresses are those of contiguous memory."""

    BATCH: int
    INDEX: int  # int64 [B]
    ROUND: int  # int64, one element
    SEED: int
    AREA_LOW: int  # the three of `CropParameters`, in its order
    AREA_SPAN: int
    MIRROR_BELOW: int
    SIDE_TABLE: int  # float32 [2, 65536]
    SAME: int  # 1: a counterpart is cropped and mirrored as its image
    CROP: int  # int32 [B, 4], and so on as in `MixPlan`: written
    MIRROR: int
    COUNTERPART_CROP: int
    COUNTERPART_MIRROR: int
    HEIGHT: int  # of the images, and their crop where no attempt fits
    WIDTH: int
    TOP: int
    LEFT: int
    BOTTOM: int
    RIGHT: int
    COUNTERPART_HEIGHT: int  # the same six of the counterparts
    COUNTERPART_WIDTH: int
    COUNTERPART_TOP: int
    COUNTERPART_LEFT: int
    COUNTERPART_BOTTOM: int
    COUNTERPART_RIGHT: int


Argument = _Places(*range(len(_Places._fields)))

_SIDES = 1 << TABLE_BITS


@njit
def _crop_of(a: Any, side_table: Any, index: int, round: int, stream: int, image: int, box: Any) -> None:
    """Write (top, left, bottom, right) of one sample; `image` is the place of the first number of its image."""
    height, width = a[image], a[image + 1]
    root = np.sqrt(np.float32(height * width))
    for attempt in range(CROP_ATTEMPTS):
        area_word, shape_word, top_word, left_word = philox(index, round, stream + attempt, a[Argument.SEED])
        area = a[Argument.AREA_LOW] + randint(area_word, a[Argument.AREA_SPAN])
        share = np.float32(np.sqrt(np.float32(area)) * np.float32(2.0 ** -(GRID_BITS // 2)))
        side = np.float32(share * root)
        shape = shape_word >> (32 - TABLE_BITS)
        crop_height = int(np.rint(np.float32(side * side_table[shape])))
        crop_width = int(np.rint(np.float32(side * side_table[_SIDES + shape])))
        if 1 <= crop_height <= height and 1 <= crop_width <= width:
            box[0], box[1] = randint(top_word, height - crop_height + 1), randint(left_word, width - crop_width + 1)
            box[2], box[3] = box[0] + crop_height, box[1] + crop_width
            return
    for k in range(4):
        box[k] = a[image + 2 + k]


def draw_crops(arguments: Any) -> None:
    """Write the crops and mirror flags of a batch."""
    a = carray(arguments, len(Argument), np.int64)
    batch = a[Argument.BATCH]
    index = carray(pointer(a[Argument.INDEX]), batch, np.int64)
    round = carray(pointer(a[Argument.ROUND]), 1, np.int64)[0]
    side_table = carray(pointer(a[Argument.SIDE_TABLE]), 2 * _SIDES, np.float32)
    crop = carray(pointer(a[Argument.CROP]), (batch, 4), np.int32)
    mirror = carray(pointer(a[Argument.MIRROR]), batch, np.uint8)
    other_crop = carray(pointer(a[Argument.COUNTERPART_CROP]), (batch, 4), np.int32)
    other_mirror = carray(pointer(a[Argument.COUNTERPART_MIRROR]), batch, np.uint8)
    for i in range(batch):
        word, other_word, _, _ = philox(index[i], round, STREAM_MIRROR, a[Argument.SEED])
        mirror[i] = bernoulli(word, a[Argument.MIRROR_BELOW])
        _crop_of(a, side_table, index[i], round, STREAM_CROP, Argument.HEIGHT, crop[i])
        if a[Argument.SAME]:
            other_mirror[i] = mirror[i]
            for k in range(4):
                other_crop[i, k] = crop[i, k]
        else:
            other_mirror[i] = bernoulli(other_word, a[Argument.MIRROR_BELOW])
            _crop_of(
                a, side_table, index[i], round, STREAM_COUNTERPART_CROP, Argument.COUNTERPART_HEIGHT, other_crop[i]
            )
