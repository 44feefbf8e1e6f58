"""`diffcore_gpu.plan.draw` for the CPU, bit for bit, in Python integers and NumPy.

A plan takes some 200 operations on a few numbers for each sample, so what an operation costs to start is all that it
costs: in torch half a millisecond, longer than the mix of a small batch.
"""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffcore_gpu.plan import STREAM_BOX, STREAM_CHOICE, DrawParameters, MixPlan, Pairs
from diffcore_gpu.plan.beta import GRID, TABLE_BITS
from diffcore_gpu.plan.philox import KEY_STEPS, MASK, MULTIPLIERS, ROUNDS

_Integers = NDArray[np.int64]

_LANE = 64
"""Bits of a lane."""


@lru_cache(maxsize=64)
def _repeated(lanes: int, key: int) -> tuple[int, list[tuple[int, int]]]:
    """1 in every lane, and the two key words of every round in every lane."""
    ones = ((1 << _LANE * lanes) - 1) // ((1 << _LANE) - 1)
    words = (key & MASK, key >> 32 & MASK)
    first, second = (
        [(word + turn * step & MASK) * ones for turn in range(ROUNDS)]
        for word, step in zip(words, KEY_STEPS, strict=True)
    )
    return ones, list(zip(first, second, strict=True))


def draw_words(index: _Integers, round: int, key: int) -> _Integers:
    """The random words of a plan, as `philox4x32` gives them.

    One Python integer holds a word of every counter, each in a lane of 64 bits. The product of a word and a 32-bit
    constant fits its lane, so one multiplication of long integers multiplies them all.

    Args:
        index: int64 [B], the lower two words of the counters.
        round: the third word, taken modulo 2³².
        key: the 64-bit key; integers outside [0, 2⁶⁴) are taken modulo 2⁶⁴.

    Returns:
        int64 [4, 2, B] with values in [0, 2³²): four words of `STREAM_CHOICE` and of `STREAM_BOX` for each sample.
    """
    batch = index.shape[0]
    lanes = 2 * batch
    ones, keys = _repeated(lanes, key)
    mask = MASK * ones
    below = _LANE * batch  # the lanes of the first stream
    both = int.from_bytes(index.astype("<i8").tobytes(), "little")
    both |= both << below
    c0, c1, c2 = both & mask, both >> 32 & mask, (round & MASK) * ones
    c3 = (ones & ((1 << below) - 1)) * STREAM_CHOICE + ((ones >> below) << below) * STREAM_BOX
    for k0, k1 in keys:
        product0, product1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1 = (product1 >> 32 & mask) ^ c1 ^ k0, product1 & mask
        c2, c3 = (product0 >> 32 & mask) ^ c3 ^ k1, product0 & mask
    words = b"".join(word.to_bytes(lanes * _LANE // 8, "little") for word in (c0, c1, c2, c3))
    return np.frombuffer(words, dtype="<i8").reshape(4, 2, batch)


def _below(word: _Integers, threshold: int) -> NDArray[np.bool_]:
    """A Bernoulli trial, as in `diffcore_gpu.plan`."""
    return word >> 8 < threshold


def _pick(word: _Integers, count: _Integers | int) -> _Integers:
    """An integer uniform on [0, count), as in `diffcore_gpu.plan`."""
    return word * count >> 32


def _rows(index: _Integers, words: _Integers, pairs: Pairs, parameters: DrawParameters) -> _Integers:
    """int64 [B], the row of each sample, or −1."""
    pair_ptr, pair_row = pairs.pair_ptr.numpy(), pairs.pair_row.numpy()
    if not pair_row.shape[0]:
        return np.full_like(index, -1)
    known = (index >= 0) & (index < pair_ptr.shape[0] - 1)
    safe = np.where(known, index, 0)
    first = pair_ptr[safe]
    count = np.where(known, pair_ptr[safe + 1] - first, 0)
    mixed = (count > 0) & _below(words[0], parameters.mixed_below)
    position = first if parameters.best_row else first + _pick(words[3], count)
    row = np.where(mixed, pair_row[np.where(mixed, position, 0)], -1)
    return np.where(row < pairs.num_rows, row, -1)


def _boxes(words: _Integers, parameters: DrawParameters, height: int, width: int) -> NDArray[np.int32]:
    """int32 [B, 4]."""
    size = np.array([[height], [width]])
    area = parameters.area_low + _pick(words[0], parameters.area_span)
    # Single float32 operations that IEEE 754 rounds exactly.
    share = np.sqrt(area.astype(np.float32)) * np.float32(2**-12)
    side = (share * size.astype(np.float32)).astype(np.int64)
    side = np.minimum(np.maximum(side, 1), size)
    start = _pick(words[1:3], size - side + 1) if parameters.box_inside else _pick(words[1:3], size) - side // 2
    box = np.empty((words.shape[1], 4), dtype=np.int32)
    box[:, :2] = np.maximum(start, 0).T
    box[:, 2:] = np.minimum(start + side, size).T
    return box


def draw_cpu(
    index: Tensor,
    pairs: Pairs,
    parameters: DrawParameters,
    lam_table: Tensor | None,
    *,
    height: int,
    width: int,
    seed: int,
    round: Tensor,
) -> MixPlan:
    """The plan that `diffcore_gpu.plan.draw` draws, from and into tensors on the CPU.

    Args:
        index: int64 [B].
        pairs: which rows belong to which sample.
        parameters: `PlanConfig.parameters`.
        lam_table: `PlanConfig.lam_table`.
        height: of the images, in pixels.
        width: of the images, in pixels.
        seed: 64-bit key.
        round: int64, one element.

    Returns:
        The plan; an index outside the store, and a row outside it, give row −1.
    """
    samples = index.numpy()
    words = draw_words(samples, int(round), seed)
    choice, box = words[:, 0], words[:, 1]
    if lam_table is None:
        lam = (parameters.lam_low + _pick(choice[2], parameters.lam_span)).astype(np.float32) * np.float32(1 / GRID)
    else:
        lam = lam_table.numpy()[choice[2] >> (32 - TABLE_BITS)]
    return MixPlan(
        row=torch.from_numpy(_rows(samples, choice, pairs, parameters)),
        pixel=torch.from_numpy(_below(choice[1], parameters.pixel_below)),
        lam=torch.from_numpy(lam),
        box=torch.from_numpy(_boxes(box, parameters, height, width)),
        inside_real=torch.from_numpy(_below(box[3], parameters.real_patch_below)),
    )
