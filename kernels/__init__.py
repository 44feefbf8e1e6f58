"""The Triton kernels, imported as `diffcore_gpu.kernels`; they know torch and triton and nothing of the rest.

Names load on first use: Triton is absent where there is no GPU that it compiles for, while `spec`, which needs nothing,
is wanted there too.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "Drawn": "mix",
    "DrawnCrops": "crop_mix",
    "Launched": "specialization",
    "launch_crop_mix_plan": "crop_mix",
    "launch_crop_mix_store": "crop_mix",
    "launch_mix_plan": "mix",
    "launch_mix_store": "mix",
    "launch_resized_crop": "resized_crop",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}.")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
