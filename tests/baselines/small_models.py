"""Small convolutional models and batches for the tests of the comparison methods."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffcore_gpu.baselines import Batch

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLASSES = 5


class SmallConvNet(nn.Module):
    """logits = fc(pool(relu(conv…))), with BatchNorm and dropout; features are 1/4 of the image's side."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.body = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU(inplace=True))
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(12, classes)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.fc(self.drop(self.body(self.stem(x)).mean((2, 3))))
        return result


def small_model(seed: int = 0) -> SmallConvNet:
    torch.manual_seed(seed)
    return SmallConvNet().train()


def normalized_batch(size: int = 6, height: int = 32, width: int = 40, *, seed: int = 0) -> Batch:
    """Smooth random pixels in [0, 1], normalized, and labels of which some repeat."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(size, 3, 5, 6, generator=generator)
    pixels = nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (MEAN, STD))
    labels = torch.randint(CLASSES, (size,), generator=generator)
    return Batch((pixels - mean) / std, labels, torch.arange(size))
