"""Batched operators: they take images and a plan (per-sample arguments, as in DALI) and return images."""

from diffcore_gpu.ops.cpu_compiled import CpuBackend, cpu_backend
from diffcore_gpu.ops.crop_mixing import crop_mix, crop_mix_reference
from diffcore_gpu.ops.mixing import mix
from diffcore_gpu.ops.reference import mix_reference, normalize_counterparts
from diffcore_gpu.ops.resized_crop import resized_crop

__all__ = [
    "CpuBackend",
    "cpu_backend",
    "crop_mix",
    "crop_mix_reference",
    "mix",
    "mix_reference",
    "normalize_counterparts",
    "resized_crop",
]
