"""PreAct-ResNet-18 and -34: He, Zhang, Ren, Sun, "Identity Mappings in Deep Residual Networks", ECCV 2016.

Batch normalization and ReLU come before each convolution, so that nothing but additions lies on the path from one block
to the next:  x_{l+1} = x_l + F(BN-ReLU(x_l)).  A block that changes the width or the resolution takes its shortcut, a
1×1 convolution, from the normalized input, as the paper's authors do. torchvision has none, and timm's pre-activation
networks begin at 50 layers of bottlenecks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

Stem = Literal["small", "large"]


class PreActBlock(nn.Module):
    """Two 3×3 convolutions, each after batch normalization and ReLU: [B, C_in, H, W] → [B, C_out, H/stride, W/stride].

    Args:
        inputs: C_in.
        outputs: C_out.
        stride: of the first convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        before = torch.relu(self.norm1(x))
        shortcut = x if self.shortcut is None else self.shortcut(before)
        inside: Tensor = self.conv2(torch.relu(self.norm2(self.conv1(before))))
        return shortcut + inside


class PreActResNet(nn.Module):
    """A residual network with full pre-activation.

    Args:
        num_classes: K.
        depths: blocks of each of the four stages, of 64, 128, 256 and 512 channels.
        stem: "small": one 3×3 convolution, for images of 32 or 64 pixels (CIFAR, Tiny-ImageNet); "large": a 7×7
            convolution and a pooling, each of stride 2, for images of about 224.
        channels: of the images.

    Raises:
        ValueError: the stem is neither.
    """

    def __init__(
        self, num_classes: int, depths: tuple[int, int, int, int], *, stem: Stem = "small", channels: int = 3
    ) -> None:
        super().__init__()
        if stem not in ("small", "large"):
            raise ValueError(f'stem must be "small" or "large", not {stem!r}.')
        if stem == "small":
            self.stem: nn.Module = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        else:
            self.stem = nn.Sequential(
                nn.Conv2d(channels, 64, 7, 2, padding=3, bias=False), nn.MaxPool2d(3, 2, padding=1)
            )
        width = 64
        stages = []
        for number, depth in enumerate(depths):
            outputs, stride = 64 << number, 1 if number == 0 else 2
            stages.append(
                nn.Sequential(
                    *(
                        PreActBlock(width if block == 0 else outputs, outputs, stride if block == 0 else 1)
                        for block in range(depth)
                    )
                )
            )
            width = outputs
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.norm = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, num_classes] of images [B, C, H, W]."""
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(images)))))
        x = torch.relu(self.norm(x))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


PREACT_RESNETS: dict[str, Callable[..., PreActResNet]] = {
    "preact_resnet18": partial(PreActResNet, depths=(2, 2, 2, 2)),
    "preact_resnet34": partial(PreActResNet, depths=(3, 4, 6, 3)),
}
"""By name; each takes the number of classes and the settings of `PreActResNet`."""
