"""The comparison methods: each mixes a batch as its paper says, on one small base.

Where one differs from its authors' code, its module says so. It is not promised that they are as fast as that code:
Mixup and ResizeMix cost more than it where batch and images are small, CutMix and SaliencyMix on larger ones too.

They exist so that a benchmark can put DiffCoRe-Mix beside them; `make_baseline` makes one by name.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from diffcore_gpu.baselines._base import Baseline, Batch, Mixed, Need, cross_entropy, one_hot, own_draws
from diffcore_gpu.errors import nearest

if TYPE_CHECKING:
    from diffcore_gpu.store import CounterpartStore

_PLACES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "mixup": ("mixup", "Mixup", {}),
    "cutmix": ("cutmix", "CutMix", {}),
    "saliencymix": ("saliencymix", "SaliencyMix", {}),
    "snapmix": ("snapmix", "SnapMix", {}),
    "puzzlemix": ("puzzlemix", "PuzzleMix", {}),
    "comixup": ("comixup", "CoMixup", {}),
    "guided-sr-random": ("guided_mixup", "GuidedSR", {"pairing": "random"}),
    "guided-sr-greedy": ("guided_mixup", "GuidedSR", {"pairing": "greedy"}),
    "guided-ap-random": ("guided_mixup", "GuidedAP", {"pairing": "random"}),
    "guided-ap-greedy": ("guided_mixup", "GuidedAP", {"pairing": "greedy"}),
    "manifold-mixup": ("manifold_mixup", "ManifoldMixup", {}),
    "augmix": ("augmix", "AugMix", {}),
    "pixmix": ("pixmix", "PixMix", {}),
    "resizemix": ("resizemix", "ResizeMix", {}),
    "smoothmix": ("smoothmix", "SmoothMix", {}),
    "attentive-cutmix": ("attentive_cutmix", "AttentiveCutMix", {}),
    "diffusemix": ("diffusemix", "DiffuseMix", {}),
}

BASELINES = tuple(_PLACES)
"""The names of all methods."""

__all__ = ["BASELINES", "Baseline", "Batch", "Mixed", "Need", "cross_entropy", "make_baseline", "one_hot", "own_draws"]


def make_baseline(
    name: str,
    num_classes: int,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    seed: int = 0,
    store: CounterpartStore | None = None,
    **settings: Any,
) -> Baseline:
    """Make a comparison method with its published defaults, but for what its module says.

    Args:
        name: one of `BASELINES`.
        num_classes: the number of classes, K.
        mean: C numbers that were subtracted from the images, in units of [0, 1].
        std: C numbers that they were divided by.
        seed: of the method's own random numbers.
        store: counterparts, for the methods that need them (`Need.COUNTERPARTS`); others do not look at it.
        settings: of the method, in place of its defaults.

    Raises:
        ValueError: an unknown name, with the nearest; or a method that needs counterparts without a store.
        ImportError: a package that the method uses is missing; the message says which.
    """
    if name not in _PLACES:
        raise ValueError(f"there is no method {name!r}; {nearest(name, BASELINES)}")
    module, class_name, own = _PLACES[name]
    maker = getattr(import_module(f"{__name__}.{module}"), class_name)
    if Need.COUNTERPARTS in getattr(maker, "needs", Need.NOTHING):
        if store is None:
            raise ValueError(f"{name} mixes with generated counterparts; give it a store of them.")
        own = {**own, "store": store}
    made: Baseline = maker(num_classes, mean=mean, std=std, seed=seed, **{**own, **settings})
    return made
