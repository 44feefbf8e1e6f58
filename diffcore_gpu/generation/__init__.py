"""From real images to generated counterparts: prompts, text-to-image, hard cosine filtration and the loop."""

from __future__ import annotations

from diffcore_gpu.errors import GenerationError

__all__ = ["GenerationError"]
