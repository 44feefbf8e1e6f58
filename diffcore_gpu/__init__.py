"""Generated counterparts, mixed into every training batch on the GPU (DiffCoRe-Mix).

>>> import diffcore_gpu as dc
>>> store = dc.CounterpartStore.open("stores/cub").bind(dataset)
>>> mix = dc.DiffCoreMix(store, mean=mean, std=std).cuda()
>>> for images, labels, index in DataLoader(dc.IndexedDataset(dataset), batch_size=64, shuffle=True):
...     images = mix(images.cuda(), index.cuda())
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffcore_gpu.data import IndexedDataset as IndexedDataset
    from diffcore_gpu.errors import DiffcoreError as DiffcoreError
    from diffcore_gpu.errors import StoreError as StoreError
    from diffcore_gpu.occurrences import OccurrenceSampler as OccurrenceSampler
    from diffcore_gpu.ops.crop_mix.op import crop_mix as crop_mix
    from diffcore_gpu.ops.crop_mix.reference import crop_mix_reference as crop_mix_reference
    from diffcore_gpu.ops.mix.op import mix as mix
    from diffcore_gpu.ops.mix.reference import mix_reference as mix_reference
    from diffcore_gpu.ops.mix.reference import normalize_counterparts as normalize_counterparts
    from diffcore_gpu.ops.resized_crop.op import resized_crop as resized_crop
    from diffcore_gpu.plan import MixPlan as MixPlan
    from diffcore_gpu.plan import PlanConfig as PlanConfig
    from diffcore_gpu.plan import draw_plan as draw_plan
    from diffcore_gpu.plan.beta import Beta as Beta
    from diffcore_gpu.plan.crops import CropPlan as CropPlan
    from diffcore_gpu.plan.crops import RandomResizedCropMirror as RandomResizedCropMirror
    from diffcore_gpu.plan.crops import center_crop as center_crop
    from diffcore_gpu.plan.crops import draw_crops as draw_crops
    from diffcore_gpu.plan.crops import whole_image as whole_image
    from diffcore_gpu.prefetch import PrefetchLoader as PrefetchLoader
    from diffcore_gpu.store import CounterpartStore as CounterpartStore
    from diffcore_gpu.store import CounterpartWriter as CounterpartWriter
    from diffcore_gpu.store import convert as convert
    from diffcore_gpu.store import dataset_fingerprint as dataset_fingerprint
    from diffcore_gpu.store import merge as merge
    from diffcore_gpu.store import prune as prune
    from diffcore_gpu.store import rebind as rebind
    from diffcore_gpu.store.remote.pull import pull as pull
    from diffcore_gpu.store.remote.push import push as push
    from diffcore_gpu.transform import DiffCoreMix as DiffCoreMix

__version__ = "0.1.0"

# Each name is imported when it is first used, so that `diffcore --help` need not wait for torch.
_HOMES = {
    "Beta": "plan.beta",
    "CounterpartStore": "store",
    "CounterpartWriter": "store",
    "CropPlan": "plan.crops",
    "DiffCoreMix": "transform",
    "DiffcoreError": "errors",
    "IndexedDataset": "data",
    "MixPlan": "plan",
    "OccurrenceSampler": "occurrences",
    "PlanConfig": "plan",
    "PrefetchLoader": "prefetch",
    "RandomResizedCropMirror": "plan.crops",
    "StoreError": "errors",
    "center_crop": "plan.crops",
    "convert": "store",
    "crop_mix": "ops.crop_mix.op",
    "crop_mix_reference": "ops.crop_mix.reference",
    "dataset_fingerprint": "store",
    "draw_crops": "plan.crops",
    "draw_plan": "plan",
    "merge": "store",
    "mix": "ops.mix.op",
    "mix_reference": "ops.mix.reference",
    "normalize_counterparts": "ops.mix.reference",
    "prune": "store",
    "rebind": "store",
    "pull": "store.remote.pull",
    "push": "store.remote.push",
    "resized_crop": "ops.resized_crop.op",
    "whole_image": "plan.crops",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}.")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
