"""The last convolution's features and the linear classifier of any torchvision or timm model, found by watching it run.

Class-activation maps need a model of the form logits = linear(pool(features)). No naming convention holds for all such
models, so the model is run once on two images, in evaluation mode, with a hook on each of its modules. The classifier
is the last linear layer (or 1×1 convolution) with as many outputs as there are classes; the features are what the last
module before it gave that still has more than one position. If that is not [B, C, h, w] with the C inputs of the
classifier, the model has no such layers and is refused: vision transformers, whose features are tokens, and models with
a hidden layer before the classifier, such as VGG and MobileNetV3. A normalization between pooling and classifier
(ConvNeXt) is let pass, and not part of the map.

The layers are remembered by name, so a head that is replaced later is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class FeatureLayers:
    """Names of modules, as `model.get_submodule` takes them.

    Attributes:
        features: its output is the last [B, C, h, w] with h·w > 1.
        classifier: nn.Linear or 1×1 nn.Conv2d with K outputs and C inputs; None where it was not asked for.
    """

    features: str
    classifier: str | None


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside DistributedDataParallel or DataParallel, else the model.

    An extra pass must go round the wrapper: DistributedDataParallel would wait for gradients that never come.
    """
    if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
        return cast(nn.Module, model.module)
    return model


def eager(model: nn.Module) -> nn.Module:
    """The model inside all wrappers, torch.compile's too, which ignores hooks that are added after it compiled."""
    model = unwrapped(model)
    inner = getattr(model, "_orig_mod", model)
    return unwrapped(cast(nn.Module, inner))


def logits_of(output: Any) -> Tensor:
    """Logits [B, K] in what a model returned: a tensor, an object with `logits`, or a tuple that starts with them.

    Raises:
        ValueError: it is none of these.
    """
    logits = getattr(output, "logits", output)
    if isinstance(logits, tuple | list) and logits:
        logits = logits[0]
    if not isinstance(logits, Tensor):
        raise ValueError(f"The model must return logits as a tensor [B, K], not {type(output).__name__}.")
    return logits


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Within, every module is in evaluation mode; after it, each is in the mode in which it was."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


class FeatureReader:
    """Reads the last features of the models that it is given, and knows where they are.

    Args:
        method: the method's name, for messages.
        num_classes: K; where it is None, no classifier is looked for, and any [B, C, h, w] will do.
    """

    def __init__(self, method: str, num_classes: int | None = None) -> None:
        self.method, self.num_classes = method, num_classes
        self._known: WeakKeyDictionary[nn.Module, FeatureLayers] = WeakKeyDictionary()

    def layers(self, model: nn.Module, images: Tensor) -> FeatureLayers:
        """Where the features and the classifier of a model are.

        Args:
            model: without wrappers (`eager`).
            images: float [B, C, H, W] as the model takes them; the first two are run if the model is new.

        Raises:
            ValueError: the model has no such layers.
        """
        known = self._known.get(model)
        if known is None:
            known = self._find(model, images[:2])
            self._known[model] = known
        return known

    def read(self, model: nn.Module, images: Tensor) -> tuple[Tensor, nn.Module | None]:
        """Run a model, in the mode in which it is, and return its last features and its classifier.

        No gradients are recorded. BatchNorm in training mode counts the pass in its running statistics.

        Returns:
            features: float [B, C, h, w].
            classifier: nn.Linear or 1×1 nn.Conv2d, or None where `num_classes` is None.

        Raises:
            ValueError: the model has no such layers.
        """
        model = eager(model)
        layers = self.layers(model, images)
        seen: list[Tensor] = []
        handle = model.get_submodule(layers.features).register_forward_hook(lambda _m, _i, out: seen.append(out))
        try:
            with torch.no_grad():
                model(images)
        finally:
            handle.remove()
        classifier = None if layers.classifier is None else model.get_submodule(layers.classifier)
        return seen[-1], classifier

    def _find(self, model: nn.Module, images: Tensor) -> FeatureLayers:
        outputs = _watch(model, images)
        classifier, inputs = None, None
        if self.num_classes is not None:
            places = [i for i, (_, module, _) in enumerate(outputs) if _outputs_of(module) == self.num_classes]
            if not places:
                raise ValueError(
                    f"{self.method} was made for {self.num_classes} classes, and {type(model).__name__} has no linear "
                    "layer of so many outputs; make it with the model's number of classes."
                )
            classifier, module, _ = outputs[places[-1]]
            inputs = _inputs_of(module)
            outputs = outputs[: places[-1]]
        spatial = [(name, shape) for name, _, shape in outputs if len(shape) > 2 and max(shape[2:]) > 1 < shape[1]]
        if not spatial:
            raise self._refusal(model, "has no features with more than one position")
        name, shape = spatial[-1]
        # [B, h, w, C], as some transformers have it, has the form of another image.
        height, width = images.shape[2:]
        if len(shape) != 4 or abs(shape[2] * width - shape[3] * height) > 2 * max(height, width):
            raise self._refusal(model, f"has last features of shape {list(shape)}, which are not [B, C, h, w]")
        if inputs is not None and shape[1] != inputs:
            raise self._refusal(
                model, f"has last features of {shape[1]} channels for images of this size, and a classifier of {inputs}"
            )
        return FeatureLayers(name, classifier)

    def _refusal(self, model: nn.Module, finding: str) -> ValueError:
        needed = "a model whose last layer with positions gives [B, C, h, w]"
        if self.num_classes is not None:
            needed = f"a model that pools its last [B, C, h, w] features into one linear layer of {self.num_classes}"
        return ValueError(
            f"{self.method} needs {needed}, and {type(model).__name__} {finding}; "
            "use a ResNet, DenseNet, EfficientNet or ConvNeXt, and images of their size."
        )


def _watch(model: nn.Module, images: Tensor) -> list[tuple[str, nn.Module, tuple[int, ...]]]:
    """(name, module, shape) of each tensor that a module of the model returns, in the order of running."""
    outputs: list[tuple[str, nn.Module, tuple[int, ...]]] = []

    def note(name: str, module: nn.Module, output: object) -> None:
        if isinstance(output, Tensor):
            outputs.append((name, module, tuple(output.shape)))

    handles = [
        module.register_forward_hook(lambda module, _, output, name=name: note(name, module, output))
        for name, module in model.named_modules()
        if name
    ]
    try:
        with evaluating(model), torch.no_grad():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    return outputs


def _outputs_of(module: nn.Module) -> int | None:
    if isinstance(module, nn.Linear):
        return module.out_features
    if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
        return module.out_channels
    return None


def _inputs_of(module: nn.Module) -> int:
    return module.in_features if isinstance(module, nn.Linear) else cast(nn.Conv2d, module).in_channels
