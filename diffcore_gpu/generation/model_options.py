"""Which text-to-image model to use and how; presets are ready-made options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from diffcore_gpu.errors import GenerationError

DTYPES = ("auto", "float32", "float16", "bfloat16")


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
