"""Parts of images: boxes of CutMix's kind, and b × b equal blocks.

A box has sides of sqrt(1 − λ) of the image's, around a centre, and is clipped at the borders.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from torch import Tensor


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


def cut(images: Tensor, blocks: int) -> Tensor:
    """A view [B, C, b, h, b, w] of images [B, C, H, W], h = H/b and w = W/b; b divides H and W."""
    view: Tensor = images.unflatten(3, (blocks, -1)).unflatten(2, (blocks, -1))
    return view


def check_divisible(images: Tensor, blocks: int, method: str) -> None:
    """Refuse images [B, C, H, W] that cannot be cut into blocks × blocks equal parts.

    Raises:
        ValueError: naming the sides.
    """
    height, width = images.shape[-2:]
    if height % blocks or width % blocks or not height or not width:
        raise ValueError(
            f"{method} cuts images into {blocks} × {blocks} equal blocks, which {height} × {width} pixels do not give; "
            f"use an image size that is a multiple of {blocks}."
        )
