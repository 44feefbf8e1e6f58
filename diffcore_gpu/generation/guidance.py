"""From the guidance γ of eq. 4 to what a pipeline of diffusers calls guidance_scale.

    eps = (1 + γ) · eps(x, P_c) − γ · eps(x, P_n)

Nearly all pipelines compute eps_n + w · (eps_c − eps_n), so w = 1 + γ. A few compute eps_c + s · (eps_c − eps_n), so
their scale is γ itself. Others have no use for a negative prompt; they are refused, because the images would silently
contain what it forbids.
"""

from __future__ import annotations

import inspect
from typing import Any

from diffcore_gpu.errors import GenerationError
from diffcore_gpu.generation.model_options import check_gamma

# Known from their source: the scale multiplies (eps_c − eps_n), which is added to eps_c.
_SCALE_IS_GAMMA = ("ZImage", "Krea2")

_MEND = "choose another model, or give --no-negative-prompt to generate without one"


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
