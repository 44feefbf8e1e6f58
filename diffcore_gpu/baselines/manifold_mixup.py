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
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from diffcore_gpu.baselines._base import Baseline, Batch, Mixed, Need, check_number
from diffcore_gpu.baselines.features import eager
from diffcore_gpu.baselines.images import take

INPUT = "input"
"""The name of layer 0."""

_FIRST_STAGES = (
    ("layer1", "layer2"),  # ResNet, WideResNet, ResNeXt; torchvision and timm
    ("features.denseblock1", "features.denseblock2"),  # DenseNet
    ("stages.0", "stages.1"),  # ConvNeXt, FastViT, EfficientViT, MobileViT; timm
    ("blocks.0", "blocks.1"),  # EfficientNet, ViT; timm
    ("features.1", "features.2"),  # ConvNeXt, EfficientNet, MobileNet; torchvision
)


@dataclass(eq=False, kw_only=True)
class ManifoldMixup(Baseline):
    """Manifold Mixup with the authors' defaults.

    Args:
        alpha: of the Beta distribution, above 0.
        layers: names of modules, as `model.get_submodule` takes them, whose outputs may be mixed, or "input"; None: the
            input and the first two stages.
    """

    name, title = "manifold-mixup", "Manifold Mixup"
    needs = Need.PARTNERS

    alpha: float = 2.0
    layers: Sequence[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("alpha", self.alpha, 0, above=True)
        if self.layers is not None and (isinstance(self.layers, str) or not self.layers):
            raise ValueError(f"layers must be a list of module names, or None, not {self.layers!r}.")

    def mix(self, batch: Batch, model: nn.Module) -> Mixed:
        """Choose a layer; mix there, now if it is the input, else during the forward pass."""
        modules = self._modules(eager(model))
        layer = list(modules)[self._rng.integers(len(modules))]
        lam = float(self._rng.beta(self.alpha, self.alpha))
        partner = self._draw_partner(batch.images)
        mixed = self._mixed(batch.images, batch.labels, partner, lam, 1 - lam)
        module = modules[layer]
        if module is None:
            return replace(mixed, images=_mixed(batch.images, partner, lam))
        return replace(mixed, during_forward=_mixing_output_of(module, layer, partner, lam))

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
