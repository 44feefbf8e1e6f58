"""Batches of images as tensors: pixels in [0, 1] and normalized ones, memory formats, and the way to the device."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


class Normalization:
    """How images were normalized: x = (pixel − mean) / std, pixels in [0, 1].

    Args:
        mean: C numbers in units of [0, 1].
        std: C numbers above 0.

    Raises:
        ValueError: the two differ in length, a number is not finite, or a std is not above 0.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean, self.std = [float(value) for value in mean], [float(value) for value in std]
        if not self.mean or len(self.mean) != len(self.std):
            raise ValueError(
                f"mean and std need one number for each channel, got {len(self.mean)} and {len(self.std)} numbers."
            )
        if not all(map(math.isfinite, self.mean + self.std)) or min(self.std) <= 0:
            raise ValueError(f"mean must be finite and std above 0, got mean {self.mean} and std {self.std}.")
        self._kept: dict[torch.device, tuple[Tensor, Tensor]] = {}

    @property
    def channels(self) -> int:
        """C."""
        return len(self.mean)

    def on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Mean and std, float32 [C, 1, 1] each, sent to the device once."""
        if device not in self._kept:
            mean, std = (to_device(torch.tensor(values).reshape(-1, 1, 1), device) for values in (self.mean, self.std))
            self._kept[device] = mean, std
        return self._kept[device]

    def pixels(self, images: Tensor) -> Tensor:
        """float32 pixels, in [0, 1] but for rounding, of normalized images [..., C, H, W]."""
        mean, std = self.on(images.device)
        return images.float() * std + mean

    def images(self, pixels: Tensor, like: Tensor) -> Tensor:
        """Normalized images of pixels [B, C, H, W], in the dtype and memory format of `like`."""
        mean, std = self.on(pixels.device)
        return as_like((pixels - mean) / std, like)


def as_like(images: Tensor, like: Tensor) -> Tensor:
    """The same images in the dtype and memory format of `like`, both [B, C, H, W]."""
    memory_format = torch.channels_last if is_channels_last(like) else torch.contiguous_format
    return images.to(like.dtype, memory_format=memory_format)


def take(images: Tensor, index: Tensor) -> Tensor:
    """images[index], in the memory format of `images`, which indexing would give up."""
    if is_channels_last(images):
        return images.permute(0, 2, 3, 1)[index].permute(0, 3, 1, 2)
    return images[index]


def is_channels_last(images: Tensor) -> bool:
    """Whether [B, C, H, W] images lie in memory as [B, H, W, C], and not as [B, C, H, W] too."""
    return images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()


def to_device(numbers: Tensor, device: torch.device) -> Tensor:
    """Send a few numbers without waiting for what the device still has to do."""
    return numbers.to(device, non_blocking=True)
