"""What every comparison method is: a function from a batch to the images and targets that the model is trained on."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import Flag, auto
from typing import Protocol

import torch
from torch import Tensor, nn


class Need(Flag):
    """What a method must have beside the batch, and a benchmark must therefore pay for."""

    NOTHING = 0
    PAIRS = auto()
    """An even batch, or one of at least 2: the method mixes images of the batch with each other."""
    ACTIVATIONS = auto()
    """A forward pass of the model that is trained."""
    GRADIENTS = auto()
    """A forward and a backward pass of the model that is trained."""
    COUNTERPARTS = auto()
    """Generated images of the same classes."""


@dataclass(frozen=True)
class Batch:
    """What a loader yields, on the device that trains.

    Attributes:
        images: float [B, C, H, W], normalized with the `mean` and `std` that the method was made with.
        labels: int64 [B].
        index: int64 [B], dataset indices.
    """

    images: Tensor
    labels: Tensor
    index: Tensor


@dataclass(frozen=True)
class Mixed:
    """What the model is trained on.

    Attributes:
        images: float [M, C, H, W]; M = B unless the method says otherwise.
        targets: float32 [M, num_classes], weights of the classes in the cross-entropy.
        during_forward: entered around the model's forward pass, for methods that mix hidden features.
    """

    images: Tensor
    targets: Tensor
    during_forward: AbstractContextManager[object] = field(default_factory=nullcontext)


class Baseline(Protocol):
    """A comparison method with its published defaults, but for what its module says.

    A method is made as ``Method(num_classes, mean=…, std=…, seed=…, **its own settings)`` and draws its random numbers
    from a generator of its own, so that it repeats from run to run.
    """

    name: str
    needs: Need

    def __call__(self, batch: Batch, model: nn.Module) -> Mixed:
        """Mix a batch.

        Args:
            batch: what the loader yielded; it is not changed.
            model: the model that is trained; where `needs` names it, in the mode and on the device of its training.

        Raises:
            ValueError: the batch or the model is not one that the method can work with; naming the mend.
        """
        ...


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """float32 [B, num_classes]."""
    return nn.functional.one_hot(labels, num_classes).to(torch.float32)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over the batch of −Σ targets·log softmax(logits), with [M, K] targets whose rows need not sum to 1."""
    return -(targets * nn.functional.log_softmax(logits.float(), dim=1)).sum(1).mean()
