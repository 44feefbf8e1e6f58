"""The variational autoencoder of the demo's pipeline: 3×32×32 images to 4×8×8 latents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import l1_loss, mse_loss

from diffcore_gpu.demo.pretraining.batches import DigitBatches

_KL_WEIGHT = 1e-5


def as_rgb(images: Tensor) -> Tensor:
    """[N, 1, H, W] in [0, 1] as [N, 3, H, W] in [−1, 1], the range of diffusers' pipelines."""
    return (2 * images - 1).expand(-1, 3, -1, -1)


def make_autoencoder() -> Any:
    """An untrained AutoencoderKL."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        sample_size=32,
        latent_channels=4,
        block_out_channels=(12, 24, 40),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=4,
        mid_block_add_attention=False,
    )


def train_autoencoder(batches: DigitBatches, steps: int, progress: Callable[[int, int], None]) -> Any:
    """Train it by reconstruction, and measure the scaling factor that gives latents unit variance.

    Args:
        batches: source of the images.
        steps: of 64 images each.
        progress: gets (done, total) steps.

    Returns:
        The AutoencoderKL, in eval mode, its configuration complete.
    """
    model = make_autoencoder()
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for step in range(steps):
        images = as_rgb(batches.draw(64).images)
        posterior = model.encode(images).latent_dist
        decoded = model.decode(posterior.sample(batches.generator)).sample
        loss = l1_loss(decoded, images) + mse_loss(decoded, images) + _KL_WEIGHT * posterior.kl().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        progress(step + 1, steps)
    model.eval()
    with torch.no_grad():
        latents = model.encode(as_rgb(batches.draw(512).images)).latent_dist.sample(batches.generator)
    model.register_to_config(scaling_factor=float(1 / latents.std()))
    return model
