"""Models with the settings under which they are known to work, by name."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from diffcore_gpu.generation.settings import SchedulerOptions


@dataclass(frozen=True)
class Preset:
    """A model and its settings; w = 1 + γ is diffusers' guidance_scale.

    Attributes:
        description: one line for a person.
        model: as in `ModelOptions`, and likewise the other names.
    """

    description: str
    model: str
    gamma: float
    steps: int
    height: int
    width: int
    variant: str | None = None
    config: str | None = None
    vae: str | None = None
    scheduler: SchedulerOptions | None = None

    def options(self) -> dict[str, Any]:
        """What it sets of `ModelOptions`, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "description"}


PRESETS: dict[str, Preset] = {
    # As the paper's authors ran it: EDM sampling with v-prediction on exponential sigmas, 512 × 512.
    "cosxl": Preset(
        description="CosXL as in the paper: γ = 11 (w = 12), 50 steps, 512 x 512, EDM scheduler, fp16-fix VAE",
        model="stabilityai/cosxl/cosxl.safetensors",
        gamma=11.0,
        steps=50,
        height=512,
        width=512,
        config="stabilityai/stable-diffusion-xl-base-1.0",
        vae="madebyollin/sdxl-vae-fp16-fix",
        scheduler=SchedulerOptions(
            "EDMEulerScheduler",
            {
                "sigma_min": 0.002,
                "sigma_max": 120.0,
                "sigma_data": 1.0,
                "prediction_type": "v_prediction",
                "sigma_schedule": "exponential",
            },
        ),
    ),
    "sdxl": Preset(
        description="Stable Diffusion XL base 1.0: γ = 6 (w = 7), 40 steps, 1024 x 1024, fp16-fix VAE",
        model="stabilityai/stable-diffusion-xl-base-1.0",
        gamma=6.0,
        steps=40,
        height=1024,
        width=1024,
        variant="fp16",
        vae="madebyollin/sdxl-vae-fp16-fix",
    ),
    "sdxl-turbo": Preset(
        description="SDXL Turbo: γ = 0 (w = 1), 4 steps, 512 x 512; knows no negative prompt, so --no-negative-prompt",
        model="stabilityai/sdxl-turbo",
        gamma=0.0,
        steps=4,
        height=512,
        width=512,
        variant="fp16",
        vae="madebyollin/sdxl-vae-fp16-fix",
    ),
    "sd15": Preset(
        description="Stable Diffusion 1.5: γ = 6.5 (w = 7.5), 50 steps, 512 x 512",
        model="stable-diffusion-v1-5/stable-diffusion-v1-5",
        gamma=6.5,
        steps=50,
        height=512,
        width=512,
        variant="fp16",
    ),
}
"""The presets by name."""
