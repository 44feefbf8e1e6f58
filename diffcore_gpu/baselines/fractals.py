"""Coloured fractals as mixing images for PixMix and DiffuseMix, rendered here instead of downloaded.

A fractal is the attractor of an iterated function system of 2 to 4 affine maps p → A_i·p + b_i. As in Anderson,
Farrell, "Improving Fractal Pre-training", WACV 2022, A_i is built from two rotations, two signs and its singular values
σ_i1 ≥ σ_i2 in (0, 1), drawn such that Σ_i (σ_i1 + 2·σ_i2) lies in [(5 + n)/2, (6 + n)/2] for n maps: fuller than dust,
finer than a blob. b_i is uniform in [−1, 1]². Points are drawn by the chaos game: a map is chosen with a probability
that grows with |det A_i| and applied, again and again. A pixel is as bright as the logarithm of the points in it, in
the mean colour of the maps that led there, on a dark ground.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from diffcore_gpu.baselines.images import to_device

Floats = npt.NDArray[np.float32]

_MAPS = 4
_POINTS, _STEPS, _SETTLING = 4096, 48, 16
"""Points that play the chaos game side by side, steps that are drawn, and steps before, which lead to the attractor."""
_BORDER = 0.002
"""Share of the points that may lie outside the picture on each side."""


class FractalSet:
    """A set of fractals to draw from, rendered when they are first needed and kept on the device.

    Args:
        count: of different fractals.
        seed: what they are made from.
        margin: side of the rendered squares over the longer side of what is drawn, at least 1.
    """

    def __init__(self, count: int, seed: int, margin: float = 1.0) -> None:
        self.count, self.seed, self.margin = count, seed, margin
        self._kept: dict[tuple[int, torch.device], Tensor] = {}

    def draw(self, rng: np.random.Generator, like: Tensor) -> Tensor:
        """A random part of a random fractal for each image.

        Args:
            rng: chooses fractals and parts.
            like: [B, C, H, W] with C = 3, or 1 for grey fractals.

        Returns:
            uint8 [B, C, H, W] on the device of `like`.

        Raises:
            ValueError: C is neither.
        """
        batch, channels, height, width = like.shape
        if channels not in (1, 3):
            raise ValueError(f"Fractals have 3 channels or 1, the images have {channels}; use RGB or grey images.")
        side = math.ceil(max(height, width) * self.margin)
        key = side, like.device
        if key not in self._kept:
            self._kept[key] = to_device(render_fractals(self.count, side, self.seed), like.device)
        fractals = self._kept[key]
        numbers = rng.integers(self.count, size=batch)
        tops = rng.integers(side - height + 1, size=batch)
        lefts = rng.integers(side - width + 1, size=batch)
        drawn = torch.stack(
            [
                fractals[number, :, top : top + height, left : left + width]
                for number, top, left in zip(numbers, tops, lefts, strict=True)
            ]
        )
        return drawn if channels == 3 else drawn.float().mean(1, keepdim=True).to(torch.uint8)


@lru_cache(maxsize=4)
def render_fractals(count: int, side: int, seed: int) -> Tensor:
    """uint8 [count, 3, side, side] on the CPU; the same for the same arguments. Not to be written to."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(np.stack([_render(rng, side) for _ in range(count)]))


def _render(rng: np.random.Generator, side: int) -> npt.NDArray[np.uint8]:
    number = int(rng.integers(2, _MAPS + 1))
    matrices, offsets = _maps(rng, number)
    weights = np.abs(np.linalg.det(matrices)) + 0.01  # so that thin maps have their share
    choices = rng.choice(number, size=(_SETTLING + _STEPS, _POINTS), p=weights / weights.sum()).astype(np.int8)
    points = np.zeros((_POINTS, 2), dtype=np.float32)
    visited = np.empty((_STEPS, _POINTS, 2), dtype=np.float32)
    for step, choice in enumerate(choices):
        points = np.einsum("pij,pj->pi", matrices[choice], points) + offsets[choice]
        visited[max(step - _SETTLING, 0)] = points
    places = visited.reshape(-1, 2)
    low, high = np.quantile(places[:: len(places) // 8192], (_BORDER, 1 - _BORDER), axis=0)
    cells = np.floor((places - low) / np.maximum(high - low, 1e-6) * side).astype(np.int64)
    inside = ((cells >= 0) & (cells < side)).all(1)
    last = choices[_SETTLING:].reshape(-1)[inside]
    pixel = cells[inside, 0] * side + cells[inside, 1]
    counts = np.bincount(pixel * number + last, minlength=side * side * number).reshape(side, side, number)
    colours, ground = rng.uniform(0.2, 1, (number, 3)), rng.uniform(0, 0.15, 3)
    total = counts.sum(-1, keepdims=True)
    brightness = np.log1p(total) / np.log1p(max(int(total.max()), 1))
    mean_colour = (counts @ colours) / np.maximum(total, 1)
    picture = (ground + brightness * (mean_colour - ground)) * 255
    rendered: npt.NDArray[np.uint8] = picture.astype(np.uint8).transpose(2, 0, 1)
    return rendered


def _maps(rng: np.random.Generator, number: int) -> tuple[Floats, Floats]:
    """Matrices [number, 2, 2] and offsets [number, 2] of a system as the module docstring has it."""
    while True:
        singular = np.sort(rng.uniform(0, 1, (number, 2)), axis=1)[:, ::-1]
        if (5 + number) / 2 <= (singular * (1, 2)).sum() <= (6 + number) / 2:
            break
    left, right = (_rotations(rng.uniform(0, 2 * math.pi, number)) for _ in range(2))
    signs = rng.choice((-1.0, 1.0), (number, 2))
    matrices = left * singular[:, None] @ (right * signs[:, None])
    return matrices.astype(np.float32), rng.uniform(-1, 1, (number, 2)).astype(np.float32)


def _rotations(
    angles: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    return np.stack([np.cos(angles), -np.sin(angles), np.sin(angles), np.cos(angles)], axis=-1).reshape(-1, 2, 2)
