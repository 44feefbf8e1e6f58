"""The affine map from stored bytes to the range of the user's images, split for arithmetic beyond float32."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_KEPT: dict[tuple[object, ...], Tensor] = {}
_KEPT_AT_MOST = 64


def _per_channel(name: str, values: Sequence[float] | Tensor | float, channels: int) -> list[float]:
    if isinstance(values, Tensor):
        values = values.flatten().tolist()
    if isinstance(values, int | float):
        values = [float(values)] * channels
    numbers = [float(value) for value in values]
    if len(numbers) != channels:
        raise ValueError(f"{name} has {len(numbers)} values, but the images have {channels} channels.")
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError(f"{name} must be finite, got {numbers}.")
    return numbers


def affine_of(
    mean: Sequence[float] | Tensor | float | None, std: Sequence[float] | Tensor | float | None, channels: int
) -> Tensor:
    """Scale and shift of ``(g / 255 − mean) / std = g·scale + shift``, each as a sum of two float32.

    Args:
        mean: `channels` numbers (or one for all), in units of [0, 1]; None: 0.
        std: `channels` numbers (or one for all), above 0; None: 1.
        channels: C.

    Returns:
        float32 [2, C, 4], two splits of (scale, its remainder, shift, its remainder). The first rounds scale and shift
        to float32, so that value and remainder together hold 48 bits. The second rounds both to one power of two that
        makes ``g·scale + shift`` exact in float32 for every byte g: fewer operations and 41 bits, enough for images of
        16 bits.

    Raises:
        ValueError: wrong length, a value that is not finite, or a std that is not above 0.
    """
    means = _per_channel("mean", 0.0 if mean is None else mean, channels)
    stds = _per_channel("std", 1.0 if std is None else std, channels)
    if min(stds) <= 0:
        raise ValueError(f"std must be above 0 in every channel, got {stds}.")
    exact = torch.tensor([[1 / (255 * s), -m / s] for m, s in zip(means, stds, strict=True)], dtype=torch.float64)
    largest = 255 * exact[:, :1].abs() + exact[:, 1:].abs()
    unit = torch.exp2(largest.log2().ceil() - 23)
    return torch.stack([_split(exact, exact.to(torch.float32)), _split(exact, ((exact / unit).round() * unit))])


def affine_on(
    mean: Sequence[float] | Tensor | float | None,
    std: Sequence[float] | Tensor | float | None,
    channels: int,
    device: torch.device,
) -> Tensor:
    """`affine_of` on a device, kept for later calls: the copy to a GPU waits for it, once for each set of numbers."""
    if torch.compiler.is_compiling():  # a compiled graph keeps its own constants
        return affine_of(mean, std, channels).to(device)
    key = *(
        tuple(_per_channel(name, values, channels)) if values is not None else None
        for name, values in (("mean", mean), ("std", std))
    ), channels, device  # fmt: skip
    found = _KEPT.get(key)
    if found is None:
        found = affine_of(mean, std, channels).to(device)
        if len(_KEPT) >= _KEPT_AT_MOST:
            _KEPT.clear()
        _KEPT[key] = found
    return found


def _split(exact: Tensor, high: Tensor) -> Tensor:
    """float32 [C, 4] of scale and shift ([C, 2] float64), each as `high` and what remains."""
    low = exact - high.to(torch.float64)
    return torch.stack([high, low], dim=2).flatten(1).to(torch.float32)
