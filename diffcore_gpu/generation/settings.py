"""What to generate counterparts for, and from which prompts: the settings of the loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from diffcore_gpu.errors import GenerationError
from diffcore_gpu.generation.prompts import PromptSet

MAX_ATTEMPTS = 1 << 15
"""Attempts that the store can number."""
MAX_PER_SAMPLE = 1 << 16
"""Counterparts of one sample that have random numbers of their own."""


@dataclass(frozen=True)
class GenerationSettings:
    """What to generate.

    Attributes:
        prompts: the contextual prompts and the negative prompt.
        height: of the store's images, in pixels.
        width: of the store's images, in pixels.
        fraction: the share of each class's samples that get counterparts, in (0, 1].
        per_sample: counterparts of each of those samples.
        max_attempts: images made for one counterpart before it is given up, in [1, 32768].
        batch_size: images that are generated together. A resumed run may have another: it changes the images only as
            far as a model's rounding depends on the size of its batch.
        seed: of every random choice, a 64-bit integer.

    Raises:
        GenerationError: a number is out of its range.
    """

    prompts: PromptSet
    height: int
    width: int
    fraction: float = 1.0
    per_sample: int = 1
    max_attempts: int = 10
    batch_size: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise GenerationError(f"fraction is {self.fraction:g}; it must be above 0 and at most 1.")
        for name, most in (
            ("height", 1 << 14),
            ("width", 1 << 14),
            ("per_sample", MAX_PER_SAMPLE),
            ("max_attempts", MAX_ATTEMPTS),
            ("batch_size", 1 << 20),
        ):
            if not 1 <= getattr(self, name) <= most:
                raise GenerationError(f"{name} is {getattr(self, name)}; it must lie in [1, {most}].")
        if not -(1 << 63) <= self.seed < 1 << 64:
            raise GenerationError(f"seed is {self.seed}; it must be a 64-bit integer.")

    def as_json(self) -> dict[str, Any]:
        """What the store keeps, and what must be the same for a resumed run; JSON-able values."""
        return {
            "size": [self.height, self.width],
            "fraction": self.fraction,
            "per_sample": self.per_sample,
            "max_attempts": self.max_attempts,
            "seed": self.seed,
            "prompts": self.prompts.as_json(),
        }
