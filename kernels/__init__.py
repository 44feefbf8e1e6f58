"""The Triton kernels, imported as `diffcore_gpu.kernels`; they know torch and triton and nothing of the rest."""

from .crop_mix import DrawnCrops, launch_crop_mix_plan, launch_crop_mix_store
from .mix import Drawn, launch_mix_plan, launch_mix_store
from .resized_crop import launch_resized_crop

__all__ = [
    "Drawn",
    "DrawnCrops",
    "launch_crop_mix_plan",
    "launch_crop_mix_store",
    "launch_mix_plan",
    "launch_mix_store",
    "launch_resized_crop",
]
