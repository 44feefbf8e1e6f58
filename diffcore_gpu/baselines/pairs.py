"""Who is mixed with whom: checks of a batch, the permutation that pairs it, and the targets of a pair."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from diffcore_gpu.baselines._base import Batch, one_hot
from diffcore_gpu.baselines.arguments import check_batch, check_count
from diffcore_gpu.errors import clause


def library(name: str, method: str) -> ModuleType:
    """A package of the extra `bench`, imported where it is needed.

    Raises:
        ImportError: it cannot be imported; the sentence has the pip command.
    """
    try:
        return import_module(name)
    except ImportError as error:
        package = name.split(".", maxsplit=1)[0]
        raise ImportError(
            f"{method} needs {package}, which cannot be imported ({clause(error)}); "
            "install it with: pip install 'diffcore-gpu[bench]'."
        ) from None


def check_number_of_classes(num_classes: int, method: str) -> int:
    """`num_classes`, where it is a whole number from 1.

    Raises:
        ValueError: it is not.
    """
    return check_count(f"num_classes of {method}", num_classes, 1)


def check_pairs(batch: Batch, num_classes: int, method: str) -> None:
    """Refuse a batch whose images cannot be mixed with each other.

    On a GPU the values of the labels are not read, for that would wait for the device.

    Raises:
        ValueError: shapes or dtypes are wrong, the batch has one image, or (on the CPU) a label is no class.
    """
    check_batch(batch, method)
    images, labels = batch.images, batch.labels
    if labels.device != images.device:
        raise ValueError(f"{method} needs images and labels on one device, not {images.device} and {labels.device}.")
    if len(images) < 2:
        raise ValueError(
            f"{method} mixes the images of a batch with each other; a batch of {len(images)} is too small for that, "
            "so give batches of 2 or more (drop_last=True drops a short last one)."
        )
    if labels.device.type == "cpu" and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise ValueError(
            f"{method} was made for {num_classes} classes, and the batch has labels from {int(labels.min())} to "
            f"{int(labels.max())}; make it with num_classes={int(labels.max()) + 1} or more and labels from 0."
        )


def draw_permutation(rng: np.random.Generator, size: int) -> Tensor:
    """int64 [size] on the CPU; image i is mixed with image permutation[i], which may be itself."""
    return torch.from_numpy(rng.permutation(size).astype(np.int64))


def to_device(numbers: Tensor, device: torch.device) -> Tensor:
    """Send a few numbers without waiting for what the device still has to do."""
    return numbers.to(device, non_blocking=True)


def is_channels_last(images: Tensor) -> bool:
    """Whether [B, C, H, W] images lie in memory as [B, H, W, C], and not as [B, C, H, W] too."""
    return images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()


def take(images: Tensor, permutation: Tensor) -> Tensor:
    """images[permutation], in the memory format of `images`, which indexing would give up."""
    if is_channels_last(images):
        return images.permute(0, 2, 3, 1)[permutation].permute(0, 3, 1, 2)
    return images[permutation]


def mixed_targets(
    labels: Tensor, permutation: Tensor, own: float | Tensor, partner: float | Tensor, num_classes: int
) -> Tensor:
    """float32 [B, num_classes]: own·onehot(labels) + partner·onehot(labels[permutation]).

    Args:
        labels: int64 [B].
        permutation: int64 [B].
        own: weight of the image's label, one number or float32 [B].
        partner: weight of its partner's label, likewise. Pairs of one class get the sum.
        num_classes: K.
    """
    classes = one_hot(labels, num_classes)
    columns = [weight[:, None] if isinstance(weight, Tensor) else weight for weight in (own, partner)]
    return classes * columns[0] + classes[permutation] * columns[1]
