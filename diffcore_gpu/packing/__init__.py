"""Behind `diffcore pack`: from real images and a folder of images that any tool generated to a counterpart store."""

from __future__ import annotations

from diffcore_gpu.errors import PackError
from diffcore_gpu.packing.options import Content, Fit, Layout, PackOptions

__all__ = ["Content", "Fit", "Layout", "PackError", "PackOptions"]
