"""What the comparison methods ask of their settings and images, checked before any work."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from diffcore_gpu.baselines._base import Batch


def check_batch(batch: Batch, method: str) -> None:
    """Refuse images that are not normalized ones, and labels that are not theirs.

    Raises:
        ValueError: shapes or dtypes are wrong.
    """
    images, labels = batch.images, batch.labels
    if images.ndim != 4 or not images.is_floating_point() or not images.numel():
        raise ValueError(
            f"{method} needs normalized images of a float dtype, shaped [B, C, H, W], not {images.dtype} "
            f"{list(images.shape)}."
        )
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{method} needs labels as int64 [{len(images)}], one for each image, not {labels.dtype} "
            f"{list(labels.shape)}."
        )


def check_images(batch: Batch, channels: int, method: str) -> None:
    """Refuse a batch whose images a method cannot change one by one.

    Raises:
        ValueError: as `check_batch`, or the channels are not those of mean and std.
    """
    check_batch(batch, method)
    if batch.images.shape[1] != channels:
        raise ValueError(
            f"{method} has mean and std of {channels} channels, but the images have {batch.images.shape[1]}."
        )


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


def check_number(name: str, value: float, low: float, high: float = math.inf, *, above: bool = False) -> float:
    """`value` where it is a finite number in [low, high], or with `above` in (low, high].

    Raises:
        ValueError: it is not.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not low <= value <= high or (above and value == low):
        bounds = f"{'above' if above else 'of at least'} {low:g}" + ("" if high == math.inf else f" up to {high:g}")
        raise ValueError(f"{name} must be a number {bounds}, not {value!r}.")
    return value


def check_count(name: str, value: int, low: int, high: int | None = None) -> int:
    """`value` where it is an integer in [low, high].

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
        bounds = f"of at least {low}" if high is None else f"in [{low}, {high}]"
        raise ValueError(f"{name} must be an integer {bounds}, not {value!r}.")
    return value
