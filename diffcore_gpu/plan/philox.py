"""Philox4x32-10 in plain torch: random numbers that are a function of a key and a counter.

J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, “Parallel random numbers: as easy as 1, 2, 3”, SC 2011. It is the
generator of `triton.language.philox`, so a kernel draws the same numbers. Words are held as int64 tensors with values
in [0, 2³²): torch has no full set of uint32 operators, and int64 products wrap modulo 2⁶⁴, which keeps all 64 bits of a
32 × 32 bit product.
"""

from typing import TypeAlias

import torch
from torch import Tensor

Words: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]

MASK = 0xFFFFFFFF
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10


def _mulhilo(a: int, b: Tensor) -> tuple[Tensor, Tensor]:
    """The upper and lower 32 bits of a · b."""
    product = b * a  # wraps to a negative number above 2^63; the arithmetic shift and the mask undo that
    return (product >> 32) & MASK, product & MASK


def philox4x32(counter: Words, key: int) -> Words:
    """Turn each counter into four random words.

    Args:
        counter: four int64 tensors of one shape (or shapes that broadcast), values in [0, 2³²).
        key: the 64-bit key; its lower 32 bits are the first key word. Integers outside [0, 2⁶⁴) are taken modulo 2⁶⁴.

    Returns:
        Four int64 tensors of the broadcast shape, each value uniform on [0, 2³²).
    """
    c0, c1, c2, c3 = torch.broadcast_tensors(*counter)
    k0, k1 = key & MASK, (key >> 32) & MASK
    for _ in range(ROUNDS):
        hi0, lo0 = _mulhilo(MULTIPLIERS[0], c0)
        hi1, lo1 = _mulhilo(MULTIPLIERS[1], c2)
        c0, c1, c2, c3 = hi1 ^ c1 ^ k0, lo1, hi0 ^ c3 ^ k1, lo0
        k0, k1 = (k0 + KEY_STEPS[0]) & MASK, (k1 + KEY_STEPS[1]) & MASK
    return c0, c1, c2, c3


def split_words(value: Tensor) -> tuple[Tensor, Tensor]:
    """The lower and upper 32 bits of an int64 tensor (two's complement), each as int64 in [0, 2³²)."""
    return value & MASK, (value >> 32) & MASK
