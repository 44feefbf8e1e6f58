"""Images from prompts: the interface that the loop uses, and its implementation by a pipeline of diffusers.

Of the guidance γ of eq. 4,

    eps = (1 + γ) · eps(x, P_c) − γ · eps(x, P_n),

a pipeline is told what it calls guidance_scale. Nearly all pipelines compute eps_n + w · (eps_c − eps_n), so w = 1 + γ.
A few compute eps_c + s · (eps_c − eps_n), so their scale is γ itself. Others have no use for a negative prompt; they
are refused, because the images would silently contain what it forbids.
"""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from diffcore_gpu.errors import GenerationError
from diffcore_gpu.generation.settings import check_gamma

# Known from their source: the scale multiplies (eps_c − eps_n), which is added to eps_c.
_SCALE_IS_GAMMA = ("ZImage", "Krea2")
_MEND = "choose another model, or give --no-negative-prompt to generate without one"


class TextToImage(Protocol):
    """Makes images from prompts; the image of a seed and prompts does not depend on the others of the batch."""

    @property
    def seconds(self) -> Mapping[str, float]:
        """Seconds spent so far in its stages, such as "denoiser" and "vae"."""
        ...

    def generate(self, prompts: Sequence[str], negative_prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """Make one image for each prompt.

        Args:
            prompts: the contextual prompts.
            negative_prompts: as many.
            seeds: as many, of the initial noise and of all noise that a sampler adds.

        Returns:
            uint8 [n, 3, H, W] on the CPU.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """What makes the images, JSON-able: model, revision, scheduler, gamma, w, steps, dtype, size."""
        ...


class DiffusersTextToImage:
    """A pipeline of diffusers as `TextToImage`: eq. 4 with the guidance γ, and a seed of its own for each image.

    When memory runs out, the batch is halved, and stays so; a batch of one that does not fit is an error.

    Args:
        pipeline: a text-to-image pipeline, on its device. Hooks that take the time are added to it.
        gamma: the guidance γ of eq. 4.
        steps: denoising steps.
        negative: whether the negative prompts are used.
        height: of the images in pixels; None: the pipeline's own.
        width: likewise.
        identity: what `describe` says of where the model came from.
        say: gets a remark for a person.

    Raises:
        GenerationError: the negative prompts would have no effect, or the size is none for this pipeline.
    """

    def __init__(
        self,
        pipeline: Any,
        *,
        gamma: float,
        steps: int,
        negative: bool = True,
        height: int | None = None,
        width: int | None = None,
        identity: Mapping[str, Any] | None = None,
        say: Callable[[str], None] = lambda message: None,
    ) -> None:
        if negative:
            check_negative_prompt(pipeline, gamma)
        self.pipeline = pipeline
        self._gamma, self._steps, self._negative, self._say = gamma, steps, negative, say
        self._size = _size(pipeline, height, width)
        self._identity = dict(identity or {})
        self._truncation_said = False
        self._largest: int | None = None  # images that fit into memory together, once that is known
        self._timer = StageTimer(torch.device(getattr(pipeline, "_execution_device", "cpu")))
        denoiser = denoiser_of(pipeline)
        if isinstance(denoiser, torch.nn.Module):
            self._timer.watch_module("denoiser", denoiser)
        if getattr(pipeline, "vae", None) is not None:
            self._timer.watch_method("vae", pipeline.vae, "decode")
        pipeline.set_progress_bar_config(disable=True)

    @property
    def seconds(self) -> Mapping[str, float]:
        """Seconds spent so far in "denoiser" and "vae"."""
        return self._timer.seconds

    def describe(self) -> dict[str, Any]:
        """What makes the images: everything that they depend on, but not the device and its memory."""
        scheduler = getattr(self.pipeline, "scheduler", None)  # pipelines made of several keep it in their parts
        known = {} if scheduler is None else {k: v for k, v in scheduler.config.items() if not k.startswith("_")}
        denoiser = denoiser_of(self.pipeline)
        return {
            **self._identity,
            "pipeline": type(self.pipeline).__name__,
            "scheduler": None if scheduler is None else type(scheduler).__name__,
            "scheduler_config": {key: _as_json(value) for key, value in known.items()},
            "gamma": self._gamma,
            "w": 1 + self._gamma,
            "steps": self._steps,
            "negative_prompt": self._negative,
            "dtype": str(getattr(denoiser, "dtype", None)).removeprefix("torch."),
            "size": list(self._size),
        }

    def generate(self, prompts: Sequence[str], negative_prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """Make one image for each prompt; see `TextToImage.generate`.

        Raises:
            GenerationError: a single image does not fit into memory, or the model's numbers overflow.
        """
        self._say_truncation([*prompts, *(negative_prompts if self._negative else ())])
        parts: list[Tensor] = []
        begin = 0
        while begin < len(prompts):
            end = len(prompts) if self._largest is None else min(begin + self._largest, len(prompts))
            part = slice(begin, end)
            images = self._try(prompts[part], negative_prompts[part], seeds[part])
            if images is None:
                self._halve(end - begin)
                continue
            parts.append(images)
            begin = end
        self._timer.settle()
        return torch.cat(parts)

    def _try(self, prompts: Sequence[str], negative_prompts: Sequence[str], seeds: Sequence[int]) -> Tensor | None:
        """The images, or None where memory ran out: the caller halves when no frame holds a tensor of it any more."""
        arguments: dict[str, Any] = {
            "prompt": list(prompts),
            "num_inference_steps": self._steps,
            "guidance_scale": guidance_scale(self.pipeline, self._gamma),
            # On the CPU, so that the noise of a seed is the same on every device.
            "generator": [torch.Generator().manual_seed(seed) for seed in seeds],
            "output_type": "pt",
        }
        if self._negative:
            arguments["negative_prompt"] = list(negative_prompts)
        arguments["height"], arguments["width"] = self._size
        try:
            images: Tensor = self.pipeline(**arguments).images
            if not torch.isfinite(images).all():
                raise GenerationError(
                    "The model's numbers overflowed and its images are empty; use --dtype bfloat16 or float32, or for "
                    "SDXL in float16 --vae madebyollin/sdxl-vae-fp16-fix."
                )
            return images.float().clamp(0, 1).mul(255).round().to(torch.uint8).cpu()
        except torch.OutOfMemoryError:
            return None

    def _say_truncation(self, texts: Sequence[str]) -> None:
        """Say once that a text is longer than the model reads, where that is known: if it reads with CLIP alone."""
        from transformers import CLIPTokenizer

        parts = getattr(self.pipeline, "components", {})
        tokenizers = [part for name, part in parts.items() if name.startswith("tokenizer") and part is not None]
        if self._truncation_said or not all(isinstance(tokenizer, CLIPTokenizer) for tokenizer in tokenizers):
            return
        for tokenizer in tokenizers:
            limit = tokenizer.model_max_length
            lengths = [len(tokens) for tokens in tokenizer(list(texts)).input_ids]
            if max(lengths) > limit:
                text = texts[lengths.index(max(lengths))]
                self._say(f"The model reads {limit} tokens; of {text!r}, {max(lengths) - limit} more are left out.")
                self._truncation_said = True
                return

    def _halve(self, size: int) -> None:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if size == 1:
            raise GenerationError(
                f"A single image of {self._size[0]} x {self._size[1]} pixels does not fit into the GPU's memory; give "
                "--cpu-offload, --vae-tiling or --attention-slicing, or make smaller images."
            )
        self._largest = size // 2
        self._say(f"The GPU's memory is too small for {size} images at once; going on with {self._largest}.")


def _size(pipeline: Any, height: int | None, width: int | None) -> tuple[int, int]:
    factor = int(getattr(pipeline, "vae_scale_factor", 1))
    if height is None or width is None:
        latent = getattr(pipeline, "default_sample_size", None) or getattr(
            getattr(denoiser_of(pipeline), "config", None), "sample_size", None
        )
        if latent is None:
            raise GenerationError(f"{type(pipeline).__name__} has no size of its own; give the size it is to generate.")
        rows, columns = (latent, latent) if isinstance(latent, int) else latent
        height, width = height or rows * factor, width or columns * factor
    for side in (height, width):
        if side < factor or side % factor:
            raise GenerationError(f"This model generates sides that are multiples of {factor} pixels; {side} is none.")
    return height, width


def _as_json(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def guidance_scale(pipeline: Any, gamma: float) -> float:
    """What to pass to this pipeline as guidance_scale, so that it computes eq. 4 with this γ."""
    return gamma if type(pipeline).__name__.startswith(_SCALE_IS_GAMMA) else 1 + gamma


def check_negative_prompt(pipeline: Any, gamma: float) -> None:
    """Refuse a pipeline or a γ with which the negative prompt has no effect.

    Raises:
        GenerationError: says why it has none.
    """
    check_gamma(gamma, negative=True)
    name = type(pipeline).__name__
    parameters = inspect.signature(pipeline.__call__).parameters
    if "negative_prompt" not in parameters:
        raise GenerationError(f"{name} takes no negative prompt; {_MEND}.")
    if "guidance_scale" not in parameters or "true_cfg_scale" in parameters:
        raise GenerationError(f"The guidance_scale of {name} does not weigh the negative prompt; {_MEND}.")
    if getattr(pipeline.config, "is_distilled", False):
        raise GenerationError(f"This {name} is distilled, and ignores the negative prompt; {_MEND}.")
    config = getattr(denoiser_of(pipeline), "config", None)
    if getattr(config, "time_cond_proj_dim", None) is not None or getattr(config, "guidance_embeds", False):
        raise GenerationError(
            f"The denoiser of this {name} has the guidance scale as an input of its own, so that the negative prompt "
            f"has no effect; {_MEND}."
        )


def denoiser_of(pipeline: Any) -> Any:
    """The part of a pipeline that predicts the noise: its `unet` or `transformer`; None where it has neither."""
    return getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)


class StageTimer:
    """Adds up the time of named stages of a pipeline, measured where they are called.

    On a GPU a stage is bracketed by two events in its stream, which cost microseconds and are read later, by `settle`.

    Args:
        device: where the stages run.

    Attributes:
        seconds: by stage, what `settle` has read.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._open: dict[str, Any] = {}
        self._closed: list[tuple[str, Any, Any]] = []
        self.seconds: dict[str, float] = {}

    def begin(self, stage: str) -> None:
        """The stage begins; one that was begun before and failed is forgotten."""
        self._open[stage] = self._now()

    def end(self, stage: str) -> None:
        """The stage has ended."""
        self._closed.append((stage, self._open.pop(stage), self._now()))

    def settle(self) -> None:
        """Read the clocks of everything that has ended. On a GPU it waits for that."""
        for stage, begin, end in self._closed:
            if self._cuda:
                end.synchronize()
                spent = begin.elapsed_time(end) / 1e3
            else:
                spent = end - begin
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent
        self._closed.clear()

    def watch_module(self, stage: str, module: torch.nn.Module) -> None:
        """Count every call of the module."""
        module.register_forward_pre_hook(lambda *_: self.begin(stage))
        module.register_forward_hook(lambda *_: self.end(stage))

    def watch_method(self, stage: str, owner: object, name: str) -> None:
        """Count every call of a method."""
        method = getattr(owner, name)

        @functools.wraps(method)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self.begin(stage)
            result = method(*args, **kwargs)
            self.end(stage)
            return result

        setattr(owner, name, timed)

    def _now(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
