"""Training batches for the demo's models: real digits, moved and bent a little, with captions measured on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample

from diffcore_gpu.demo import digits
from diffcore_gpu.demo.pretraining.captions import DAMAGES, attributes, caption

PER_CLASS, SPLIT_SEED = 6, 0
"""The split of the demo: what it trains and evaluates on is never seen here."""


@dataclass(frozen=True)
class Drawn:
    """A training batch of N.

    Attributes:
        images: float32 [N, 1, 32, 32] in [0, 1].
        labels: int64 [N].
        attributes: for each image those that hold.
        damages: for each image how it was damaged, in words; mostly empty.
    """

    images: Tensor
    labels: Tensor
    attributes: list[list[str]]
    damages: list[list[str]]


class DigitBatches:
    """Draws batches from the digits that the demo sets aside for its generator.

    Args:
        seed: of the generator that everything is drawn from.
        damaged: share of the images that are blurred, noisy, empty or cut off, so that a prompt against it means
            something.
    """

    def __init__(self, seed: int, damaged: float = 0.15) -> None:
        images, labels = digits.load_digits()
        fitting, _, _ = digits.split(labels, PER_CLASS, SPLIT_SEED)
        large = np.stack([digits.enlarge(image) for image in images[fitting]])
        self.images = torch.from_numpy(large).to(torch.float32).div(255).unsqueeze(1)
        self.labels = torch.from_numpy(labels[fitting])
        self.generator = torch.Generator().manual_seed(seed)
        self._damaged = damaged

    def _uniform(self, count: int, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=self.generator)

    def draw(self, count: int) -> Drawn:
        """A batch of `count` images."""
        chosen = torch.randint(len(self.images), (count,), generator=self.generator)
        images = self._moved(self.images[chosen])
        names = attributes(images)
        damages: list[list[str]] = [[] for _ in range(count)]
        for position in (torch.rand(count, generator=self.generator) < self._damaged).nonzero().flatten().tolist():
            damages[position] = self._damage(images[position])
            names[position] = []
        return Drawn(images.clamp_(0, 1), self.labels[chosen], names, damages)

    def _moved(self, images: Tensor) -> Tensor:
        """Turned, sheared, scaled and shifted a little, with bolder or thinner strokes."""
        count = len(images)
        angle, shear = self._uniform(count, -0.15, 0.15), self._uniform(count, -0.3, 0.3)
        scale_x, scale_y = self._uniform(count, 0.9, 1.15), self._uniform(count, 0.9, 1.1)
        theta = torch.zeros(count, 2, 3)
        theta[:, 0, 0], theta[:, 0, 1] = angle.cos() * scale_x, (shear - angle.sin()) * scale_y
        theta[:, 1, 0], theta[:, 1, 1] = angle.sin() * scale_x, angle.cos() * scale_y
        theta[:, :, 2] = self._uniform(2 * count, -0.08, 0.08).view(count, 2)
        moved = grid_sample(images, affine_grid(theta, list(images.shape), align_corners=False), align_corners=False)
        return moved ** self._uniform(count, -0.4, 0.4).exp().view(-1, 1, 1, 1)

    def _damage(self, image: Tensor) -> list[str]:
        """Damage one image [1, 32, 32] in place, in one way or several; returns the words for it."""
        ways = [name for name in DAMAGES if torch.rand((), generator=self.generator) < 0.35]
        ways = ways or [DAMAGES[int(torch.randint(len(DAMAGES), (), generator=self.generator))]]
        if "empty" in ways:
            image.mul_(0.05)
        if "cut off" in ways:
            rows = int(torch.randint(10, 20, (), generator=self.generator))
            side = int(torch.randint(4, (), generator=self.generator))
            image.copy_(image.roll(rows if side % 2 else -rows, dims=1 + side // 2))
            span = slice(0, rows) if side % 2 else slice(-rows, None)
            image[(slice(None), span) if side < 2 else (slice(None), slice(None), span)] = 0
        if "blurred" in ways:
            image.copy_(avg_pool2d(avg_pool2d(image, 7, 1, 3), 5, 1, 2))
        if "noisy" in ways:
            image.add_(torch.randn(image.shape, generator=self.generator), alpha=0.3)
        return ways

    def captions(self, drawn: Drawn, *, one_attribute: bool, bare: float = 0.0, dropped: float = 0.0) -> list[str]:
        """A caption for each image.

        Args:
            drawn: the batch.
            one_attribute: name one attribute that holds, as the prompts do; otherwise all of them.
            bare: share of the captions that name none.
            dropped: share of the captions that are left empty, for guidance.
        """
        found = []
        for label, names, damages in zip(drawn.labels.tolist(), drawn.attributes, drawn.damages, strict=True):
            chance = float(torch.rand((), generator=self.generator))
            if damages:
                # also without the label, as in a negative prompt
                found.append(", ".join(damages) if chance < 0.6 else caption(label, damages))
                continue
            if one_attribute and names:
                names = [names[int(torch.randint(len(names), (), generator=self.generator))]]
            if chance < dropped:
                found.append("")
            else:
                found.append(caption(label, [] if chance < dropped + bare else names))
        return found
