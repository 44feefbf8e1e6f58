"""Classifiers by name: torchvision's, timm's, and the PreAct-ResNets that neither has."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from diffcore_gpu.benchmarks.training.preact_resnet import PREACT_RESNETS
from diffcore_gpu.errors import BenchmarkError, nearest


def make_model(name: str, num_classes: int, *, pretrained: bool = False, **settings: Any) -> nn.Module:
    """A classifier with `num_classes` outputs, on the CPU, in training mode.

    Args:
        name: of a PreAct-ResNet of `diffcore_gpu.benchmarks.training.preact_resnet`, of torchvision, or of timm,
            looked up in this order.
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
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BenchmarkError(f"the pretrained weights of {name} cannot be had: {why}.") from error
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
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BenchmarkError(f"{name} cannot be trained on images of {size}×{size}: {reason}.") from error
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
