"""The demo's training runs: a small network on few real images, with and without counterparts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffcore_gpu.store import CounterpartStore
from diffcore_gpu.transform import DiffCoreMix

MEAN, STD = (0.3,) * 3, (0.35,) * 3
_EPOCHS, _BATCH, _LEARNING_RATE = 40, 20, 0.005


@dataclass(frozen=True)
class Split:
    """Images uint8 [N, 3, 32, 32] with labels int64 [N], to train on and to evaluate on."""

    images: Tensor
    labels: Tensor
    held_out_images: Tensor
    held_out_labels: Tensor


def _normalize(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (images.to(torch.float32) / 255 - mean) / std


def _network() -> nn.Module:
    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]

    return nn.Sequential(
        *block(3, 12), *block(12, 24), *block(24, 48), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 10)
    )


def train(split: Split, store: CounterpartStore | None, seed: int) -> float:
    """Train once and evaluate.

    Args:
        split: the images.
        store: the counterparts of ``split.images``; None: train without.
        seed: of the initial weights, the order of the samples, and the mix.

    Returns:
        Top-1 accuracy on the held-out images, in [0, 1].
    """
    torch.manual_seed(seed)
    images, labels = _normalize(split.images), split.labels
    model = _network()
    mix = None if store is None else DiffCoreMix(store, mean=MEAN, std=STD, seed=seed)
    optimizer = torch.optim.AdamW(model.parameters(), _LEARNING_RATE, weight_decay=0.01)
    steps = _EPOCHS * math.ceil(len(images) / _BATCH)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=steps)
    model.train()
    for _ in range(_EPOCHS):
        for index in torch.randperm(len(images)).split(_BATCH):
            batch = images[index]
            if mix is not None:
                batch = mix(batch, index)
            loss = nn.functional.cross_entropy(model(batch), labels[index])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            scheduler.step()
    model.eval()
    with torch.inference_mode():
        predicted = model(_normalize(split.held_out_images)).argmax(1)
    return int((predicted == split.held_out_labels).sum()) / len(predicted)


def accuracies(
    split: Split, store: CounterpartStore | None, seeds: range, finished: Callable[[], None] = lambda: None
) -> list[float]:
    """`train` once for each seed; `finished` is called after each."""
    results = []
    for seed in seeds:
        results.append(train(split, store, seed))
        finished()
    return results
