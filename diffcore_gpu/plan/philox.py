"""Philox4x32-10 on arrays of NumPy or torch: random numbers that are a function of a key and a counter.

Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011. It is the generator of
`triton.language.philox`, so a kernel draws the same numbers. Words are held as int64 with values in [0, 2³²): torch has
no full set of uint32 operators, and int64 products wrap modulo 2⁶⁴, which keeps all 64 bits of a 32 × 32 bit product.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from diffcore_gpu.kernels.spec import PHILOX_KEY_STEPS, PHILOX_MULTIPLIERS, PHILOX_ROUNDS

Array: TypeAlias = Any
"""A `numpy.ndarray` (not a NumPy scalar, which warns when it wraps) or a `torch.Tensor`, of int64."""

MASK = 0xFFFFFFFF


def _mulhilo(a: int, b: Array) -> tuple[Array, Array]:
    """The upper and lower 32 bits of a · b."""
    product = b * a  # wraps to a negative number above 2^63; the arithmetic shift and the mask undo that
    return (product >> 32) & MASK, product & MASK


def philox4x32(counter: tuple[Array, Array, Array, Array], key: int) -> tuple[Array, Array, Array, Array]:
    """Turn each counter into four random words.

    Args:
        counter: four int64 arrays of shapes that broadcast, values in [0, 2³²).
        key: the 64-bit key; its lower 32 bits are the first key word. Integers outside [0, 2⁶⁴) are taken modulo 2⁶⁴.

    Returns:
        Four int64 arrays of the broadcast shape, each value uniform on [0, 2³²).
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key & MASK, (key >> 32) & MASK
    for _ in range(PHILOX_ROUNDS):
        hi0, lo0 = _mulhilo(PHILOX_MULTIPLIERS[0], c0)
        hi1, lo1 = _mulhilo(PHILOX_MULTIPLIERS[1], c2)
        c0, c1, c2, c3 = hi1 ^ c1 ^ k0, lo1, hi0 ^ c3 ^ k1, lo0
        k0, k1 = (k0 + PHILOX_KEY_STEPS[0]) & MASK, (k1 + PHILOX_KEY_STEPS[1]) & MASK
    # lo1 and lo0 of the last rounds depend on all four words, so the shapes have broadcast to one.
    return c0, c1, c2, c3


def split_words(value: Array) -> tuple[Array, Array]:
    """The lower and upper 32 bits of an int64 array (two's complement), each as int64 in [0, 2³²)."""
    return value & MASK, (value >> 32) & MASK
