"""What can be said of a digit: its label, the strokes and the slant that are measured on it, and how it is damaged."""

from __future__ import annotations

import torch
from torch import Tensor

STROKES = ("thin strokes", "bold strokes")
SLANTS = ("leaning to the left", "upright", "leaning to the right")
DAMAGES = ("blurred", "noisy", "empty", "cut off")

_THIN, _BOLD = 0.265, 0.315
"""Mean ink below and above which strokes are called so: about a third of the digits each."""
_LEANING, _UPRIGHT = 0.15, 0.07
"""Shear (columns a row) beyond which a digit leans, and within which it stands upright."""


def ink(images: Tensor) -> Tensor:
    """Mean of the pixels, [N], of images [N, 1, H, W] in [0, 1], white on black."""
    return images.mean(dim=(1, 2, 3))


def slant(images: Tensor) -> Tensor:
    """Shear of the ink by its second moments, in columns a row, [N]; above 0: the top leans to the right."""
    weight = images[:, 0] / images[:, 0].sum(dim=(1, 2), keepdim=True).clamp(min=1e-6)
    y = torch.arange(images.shape[2], dtype=torch.float32).view(1, -1, 1)
    x = torch.arange(images.shape[3], dtype=torch.float32).view(1, 1, -1)
    dy = y - (weight * y).sum(dim=(1, 2), keepdim=True)
    dx = x - (weight * x).sum(dim=(1, 2), keepdim=True)
    return -(weight * dx * dy).sum(dim=(1, 2)) / (weight * dy * dy).sum(dim=(1, 2)).clamp(min=1e-6)


def attributes(images: Tensor) -> list[list[str]]:
    """For each image [N, 1, H, W] in [0, 1] the attributes that clearly hold; there may be none."""
    found = []
    for mean, shear in zip(ink(images).tolist(), slant(images).tolist(), strict=True):
        names = []
        if mean < _THIN:
            names.append(STROKES[0])
        elif mean > _BOLD:
            names.append(STROKES[1])
        if shear < -_LEANING:
            names.append(SLANTS[0])
        elif abs(shear) < _UPRIGHT:
            names.append(SLANTS[1])
        elif shear > _LEANING:
            names.append(SLANTS[2])
        found.append(names)
    return found


def caption(label: int, names: list[str]) -> str:
    """As the prompt set `digit` words it: “an 8, a handwritten digit, upright”."""
    return ", ".join([f"{'an' if label == 8 else 'a'} {label}", "a handwritten digit", *names])
