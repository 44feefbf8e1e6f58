"""Classifiers by name: torchvision's, timm's, and the PreAct-ResNets that neither has."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from diffcore_gpu.errors import BenchmarkError, clause, nearest

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
    """He, Zhang, Ren, Sun, "Identity Mappings in Deep Residual Networks", ECCV 2016.

    Batch normalization and ReLU come before each convolution, so that nothing but additions lies on the path from one
    block to the next:  x_{l+1} = x_l + F(BN-ReLU(x_l)).  A block that changes the width or the resolution takes its
    shortcut, a 1×1 convolution, from the normalized input, as the paper's authors do. torchvision has none, and timm's
    pre-activation networks begin at 50 layers of bottlenecks.

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


def make_model(name: str, num_classes: int, *, pretrained: bool = False, **settings: Any) -> nn.Module:
    """A classifier with `num_classes` outputs, on the CPU, in training mode.

    Args:
        name: a key of `PREACT_RESNETS`, or of torchvision, or of timm, looked up in this order.
        num_classes: K.
        pretrained: with the library's default ImageNet weights, which it downloads; the classifying layer is new.
        settings: for the model's constructor.

    Raises:
        BenchmarkError: no such model, with the nearest names; there are no weights for it, or they cannot be had.
    """
    import timm
    import torchvision

    if name in PREACT_RESNETS:
        if pretrained:
            raise BenchmarkError(f"{name} has no pretrained weights; use a model of torchvision or timm.")
        return PREACT_RESNETS[name](num_classes, **settings)
    of_torchvision = torchvision.models.list_models(module=torchvision.models)
    try:
        if name in of_torchvision:
            if not pretrained:
                model: nn.Module = torchvision.models.get_model(name, num_classes=num_classes, **settings)
                return model
            model = torchvision.models.get_model(name, weights="DEFAULT", **settings)
            _replace_head(model, name, num_classes)
            return model
        if timm.is_model(name):
            made: nn.Module = timm.create_model(name, pretrained=pretrained, num_classes=num_classes, **settings)
            return made.train()
    except (OSError, RuntimeError, ValueError) as error:
        if not pretrained:
            raise
        raise BenchmarkError(f"the pretrained weights of {name} cannot be had: {clause(error)}.") from error
    known = [*PREACT_RESNETS, *of_torchvision, *timm.list_models()]
    others = f"see those of torchvision and timm, and {', '.join(PREACT_RESNETS)}."
    raise BenchmarkError(f"there is no model {name!r}; {nearest(name, known, others)}")


def check_model(model: nn.Module, name: str, num_classes: int, size: int) -> None:
    """Run a model once, on the CPU, in training mode, on two images of zeros.

    Args:
        model: on the CPU.
        name: for the message.
        num_classes: K.
        size: height and width.

    Raises:
        BenchmarkError: it does not take images of this size, or gives something else than logits.
    """
    try:
        with torch.no_grad():
            logits = model.train()(torch.zeros(2, 3, size, size))
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        raise BenchmarkError(f"{name} cannot be trained on images of {size}×{size}: {clause(error)}.") from error
    if not isinstance(logits, Tensor) or logits.shape != (2, num_classes):
        got = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise BenchmarkError(f"{name} gives {got} in training, not logits [2, {num_classes}]; choose another model.")


def paper_sgd(model: nn.Module) -> torch.optim.SGD:
    """The paper's optimizer: SGD with learning rate 0.01, momentum 0.9, weight decay 5e-4."""
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)


def _replace_head(model: nn.Module, name: str, num_classes: int) -> None:
    """Put a new linear layer in the place of the last one, which is the classifier of every torchvision model."""
    linear = [(path, module) for path, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise BenchmarkError(f"{name} has no linear layer to classify with, so it cannot be fine-tuned here.")
    path, last = linear[-1]
    parent, _, child = path.rpartition(".")
    setattr(model.get_submodule(parent), child, nn.Linear(last.in_features, num_classes, bias=last.bias is not None))
