"""Boxes of CutMix's kind: sides of sqrt(1 − λ) of the image's, around a centre, clipped at the borders."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np


class Box(NamedTuple):
    """Half-open: rows top … bottom − 1, columns left … right − 1."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    @property
    def area(self) -> int:
        """Pixels."""
        return self.height * self.width


def cut_box(height: int, width: int, lam: float, center: tuple[int, int]) -> Box:
    """The box of area 1 − λ around a centre, clipped to the image.

    With w = ⌊W·sqrt(1 − λ)⌋ it covers the columns x − ⌊w/2⌋ … x + ⌊w/2⌋ − 1, and the rows likewise. Rounding and
    clipping make it smaller than 1 − λ, so label weights must be taken from its `area`.

    Args:
        height: H of the image, pixels.
        width: W of the image, pixels.
        lam: λ in [0, 1].
        center: (row, column).
    """
    side = math.sqrt(1.0 - lam)
    half_height, half_width = int(height * side) // 2, int(width * side) // 2
    row, column = center
    return Box(
        max(row - half_height, 0),
        max(column - half_width, 0),
        min(row + half_height, height),
        min(column + half_width, width),
    )


def draw_box(rng: np.random.Generator, height: int, width: int, lam: float) -> Box:
    """`cut_box` around a centre that is uniform over the pixels."""
    return cut_box(height, width, lam, (int(rng.integers(height)), int(rng.integers(width))))
