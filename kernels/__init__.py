"""The Triton kernels, imported as `diffcore_gpu.kernels`; they know torch and triton and nothing of the rest."""

from .mix import launch_mix_plan, launch_mix_store
from .resized_crop import launch_resized_crop

__all__ = ["launch_mix_plan", "launch_mix_store", "launch_resized_crop"]
