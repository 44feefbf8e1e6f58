"""What a user asks for: the settings of the loop, the text-to-image model, and the filter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from diffcore_gpu.errors import GenerationError
from diffcore_gpu.generation.prompts import PromptSet

MAX_ATTEMPTS = 1 << 15
"""Attempts that the store can number."""
MAX_PER_SAMPLE = 1 << 16
"""Counterparts of one sample that have random numbers of their own."""
DTYPES = ("auto", "float32", "float16", "bfloat16")
DEFAULT_FILTER = "ViT-B-32"


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
        codec: how the store keeps its images: "raw"; "jpeg", of quality 95, or "jpeg:QUALITY"; "webp", lossless.

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
    codec: str = "raw"

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
            "codec": self.codec,
            "prompts": self.prompts.as_json(),
        }


@dataclass(frozen=True)
class SchedulerOptions:
    """A scheduler in place of the model's own.

    Attributes:
        name: the class's name in diffusers.
        arguments: of its constructor.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelOptions:
    """A text-to-image model and how it is run.

    Attributes:
        model: a folder that diffusers saved, the id of such a model on the hub, a checkpoint in one .safetensors file,
            or such a file on the hub as `owner/name/file.safetensors`.
        gamma: the guidance γ of eq. 4; diffusers' guidance_scale w is 1 + γ.
        steps: denoising steps.
        negative: whether the negative prompt is used; without it the images follow the contextual prompt alone.
        height: of what the model generates, in pixels; None: its own.
        width: likewise.
        revision: a branch, tag or commit on the hub.
        variant: of the weights' files, such as `fp16`.
        config: for a single file, the folder or hub id of a pipeline that has its configuration; None: diffusers knows.
        vae: another autoencoder than the model's: folder, hub id or .safetensors file.
        scheduler: another scheduler than the model's.
        dtype: one of `DTYPES`; auto: float16 on a GPU, float32 on the CPU.
        device: cpu, cuda, cuda:1, …; auto: a GPU if there is one.
        compile: compile the denoiser with torch.compile.
        vae_slicing: decode one image at a time.
        vae_tiling: decode an image in tiles.
        attention_slicing: compute attention in slices.
        cpu_offload: keep on the GPU only the part of the model that is at work.

    Raises:
        GenerationError: a number is out of its range, or the negative prompt would have no effect at this γ.
    """

    model: str
    gamma: float
    steps: int
    negative: bool = True
    height: int | None = None
    width: int | None = None
    revision: str | None = None
    variant: str | None = None
    config: str | None = None
    vae: str | None = None
    scheduler: SchedulerOptions | None = None
    dtype: str = "auto"
    device: str = "auto"
    compile: bool = False
    vae_slicing: bool = False
    vae_tiling: bool = False
    attention_slicing: bool = False
    cpu_offload: bool = False

    def __post_init__(self) -> None:
        check_gamma(self.gamma, self.negative)
        if self.steps < 1:
            raise GenerationError(f"steps is {self.steps}; it must be at least 1.")
        if self.dtype not in DTYPES:
            raise GenerationError(f"dtype is {self.dtype!r}; it must be one of {', '.join(DTYPES)}.")

    @property
    def w(self) -> float:
        """Diffusers' guidance_scale: 1 + γ."""
        return 1 + self.gamma


def check_gamma(gamma: float, negative: bool) -> None:
    """Refuse a γ that is no guidance, or with which the negative prompt has no effect.

    Raises:
        GenerationError: says which, and what to do.
    """
    if not 0 <= gamma < float("inf"):
        raise GenerationError(f"guidance gamma is {gamma:g}; it must be 0 or more.")
    if negative and gamma == 0:
        raise GenerationError(
            "With guidance gamma = 0 (w = 1) the negative prompt has no effect; give a gamma above 0, or "
            "--no-negative-prompt to generate without one."
        )


@dataclass(frozen=True)
class FilterOptions:
    """The model that measures similarity, and where its thresholds come from.

    Attributes:
        model: a model of open_clip by name, or a folder with one.
        weights: the name of its pretrained weights, or a .safetensors file; None: the usual ones.
        threshold: τ of every class, in [−1, 1]; None: measured on the real images.
        pairs_per_class: estimate each τ from so many pairs, as the paper does; None: exactly, from all pairs.

    Raises:
        GenerationError: a number is out of its range, or both are given.
    """

    model: str = DEFAULT_FILTER
    weights: str | None = None
    threshold: float | None = None
    pairs_per_class: int | None = None

    def __post_init__(self) -> None:
        if self.threshold is not None and not -1 <= self.threshold <= 1:
            raise GenerationError(f"threshold is {self.threshold:g}; a cosine similarity lies in [-1, 1].")
        if self.pairs_per_class is not None and self.pairs_per_class < 1:
            raise GenerationError(f"pairs_per_class is {self.pairs_per_class}; it must be at least 1.")
        if self.threshold is not None and self.pairs_per_class is not None:
            raise GenerationError("A threshold was given, so there is none to sample: leave out one of the two.")
