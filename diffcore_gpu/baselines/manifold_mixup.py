"""Manifold Mixup: Verma, Lamb, Beckham, Najafi, Mitliagkas, Lopez-Paz, Bengio, "Manifold Mixup: Better Representations
by Interpolating Hidden States", ICML 2019.

    h̃ = λ·g_k(x) + (1 − λ)·g_k(x'),   ỹ = λ·y + (1 − λ)·y',   λ ~ Beta(α, α)

One λ, one permutation and one layer k for the batch. g_k is the part of the network up to layer k, drawn uniformly;
k = 0 is the input itself. Hidden states are mixed by a forward hook, which `Mixed.during_forward` sets for one forward
pass.

Defaults are the paper's for CIFAR: α = 2, and k from the input and the outputs of the first two residual stages. The
stages are found by name, as torchvision and timm have them; for another model, give `layers`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from diffcore_gpu.baselines._base import Batch, Mixed, Need
from diffcore_gpu.baselines.arguments import check_number
from diffcore_gpu.baselines.features import eager
from diffcore_gpu.baselines.pairs import (
    check_number_of_classes,
    check_pairs,
    draw_permutation,
    mixed_targets,
    take,
    to_device,
)

INPUT = "input"
"""The name of layer 0."""

_FIRST_STAGES = (
    ("layer1", "layer2"),  # ResNet, WideResNet, ResNeXt; torchvision and timm
    ("features.denseblock1", "features.denseblock2"),  # DenseNet
    ("stages.0", "stages.1"),  # ConvNeXt, FastViT, EfficientViT, MobileViT; timm
    ("blocks.0", "blocks.1"),  # EfficientNet, ViT; timm
    ("features.1", "features.2"),  # ConvNeXt, EfficientNet, MobileNet; torchvision
)


class ManifoldMixup:
    """Manifold Mixup with the authors' defaults.

    Args:
        num_classes: K.
        mean: not used; part of the protocol.
        std: not used; part of the protocol.
        seed: of the method's own generator.
        alpha: of the Beta distribution, above 0.
        layers: names of modules, as `model.get_submodule` takes them, whose outputs may be mixed, or "input"; None: the
            input and the first two stages.

    Raises:
        ValueError: a setting is outside its range.
    """

    name = "manifold-mixup"
    needs = Need.PAIRS

    def __init__(
        self,
        num_classes: int,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        seed: int = 0,
        alpha: float = 2.0,
        layers: Sequence[str] | None = None,
    ) -> None:
        self.num_classes = check_number_of_classes(num_classes, "Manifold Mixup")
        self.alpha = check_number("alpha", alpha, 0, above=True)
        if layers is not None and (isinstance(layers, str) or not layers):
            raise ValueError(f"layers must be a list of module names, or None, not {layers!r}.")
        self.layers = None if layers is None else tuple(layers)
        self._rng = np.random.default_rng(seed)

    def __call__(self, batch: Batch, model: nn.Module) -> Mixed:
        """Choose a layer; mix there, now if it is the input, else during the forward pass.

        Raises:
            ValueError: the batch cannot be paired, or the model has no layer of such a name.
        """
        check_pairs(batch, self.num_classes, "Manifold Mixup")
        modules = self._modules(eager(model))
        layer = list(modules)[self._rng.integers(len(modules))]
        lam = float(self._rng.beta(self.alpha, self.alpha))
        partner = to_device(draw_permutation(self._rng, len(batch.images)), batch.images.device)
        targets = mixed_targets(batch.labels, partner, lam, 1 - lam, self.num_classes)
        module = modules[layer]
        if module is None:
            return Mixed(_mixed(batch.images, partner, lam), targets, nullcontext())
        return Mixed(batch.images, targets, _mixing_output_of(module, layer, partner, lam))

    def _modules(self, model: nn.Module) -> dict[str, nn.Module | None]:
        """The modules by name; None for the input."""
        present = dict(model.named_modules())
        names = self.layers
        if names is None:
            known = (stages for stages in _FIRST_STAGES if all(stage in present for stage in stages))
            names = (INPUT, *next(known, ()))
            if len(names) == 1:
                raise ValueError(
                    f"Manifold Mixup does not know the stages of {type(model).__name__}; name the modules whose "
                    'outputs it may mix, as in layers=["input", "stage1", "stage2"].'
                )
        missing = [name for name in names if name != INPUT and (not name or name not in present)]
        if missing:
            raise ValueError(
                f"{type(model).__name__} has no module {missing[0]!r}; its outermost modules are "
                f"{', '.join(name for name, _ in model.named_children())}."
            )
        return {name: None if name == INPUT else present[name] for name in names}


def _mixed(states: Tensor, partner: Tensor, lam: float) -> Tensor:
    """λ·h + (1 − λ)·h' of [B, ...], in the memory format of h."""
    other = take(states, partner) if states.ndim == 4 else states[partner]
    return torch.lerp(other, states, lam)


@contextmanager
def _mixing_output_of(module: nn.Module, name: str, partner: Tensor, lam: float) -> Iterator[None]:
    """Within, the module's next output [B, ...] is mixed with its partners."""
    runs = 0

    def mix(_module: nn.Module, _inputs: object, output: object) -> Tensor:
        nonlocal runs
        runs += 1
        if not isinstance(output, Tensor) or output.shape[:1] != partner.shape:
            raise ValueError(
                f"Manifold Mixup needs a tensor of {len(partner)} hidden states from {name!r}, which gave another "
                "output; name other modules with layers=[...]."
            )
        return _mixed(output, partner, lam)

    handle = module.register_forward_hook(mix)
    try:
        yield
    finally:
        handle.remove()
    if runs != 1:
        raise RuntimeError(
            f"Manifold Mixup mixes {name!r} in one forward pass, but it ran {runs} times; name other modules with "
            "layers=[...], and do not compile the model: a compiled model does not see the hook."
        )
