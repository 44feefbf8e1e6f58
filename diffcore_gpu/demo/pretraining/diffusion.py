"""The denoiser and the text encoder of the demo's pipeline, trained together, and the pipeline that they make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import mse_loss

from diffcore_gpu.demo.pretraining.autoencoder import as_rgb
from diffcore_gpu.demo.pretraining.batches import DigitBatches
from diffcore_gpu.demo.pretraining.tokenizer import MAX_TOKENS, make_tokenizer

_WIDTH = 64
_BATCH = 64
_AVERAGE = 0.999


def make_text_encoder(vocabulary: int) -> Any:
    """An untrained CLIP text encoder; the last token of the vocabulary ends a text."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=_WIDTH,
            intermediate_size=2 * _WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            projection_dim=_WIDTH,
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
            pad_token_id=vocabulary - 1,
        )
    )


def make_denoiser() -> Any:
    """An untrained UNet for 4×8×8 latents."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(40, 72),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=_WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
    )


def make_scheduler() -> Any:
    """The noise of training and the steps of sampling."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        clip_sample=False,
        timestep_spacing="trailing",
        steps_offset=1,
    )


def train_pipeline(batches: DigitBatches, vae: Any, steps: int, progress: Callable[[int, int], None]) -> Any:
    """Train denoiser and text encoder on the latents of a trained autoencoder.

    Args:
        batches: source of images and captions; one caption in ten is empty.
        vae: an AutoencoderKL in eval mode.
        steps: of 64 images each.
        progress: gets (done, total) steps.

    Returns:
        A StableDiffusionPipeline of 32×32 pixels, with averaged weights.
    """
    from diffusers import StableDiffusionPipeline

    tokenizer = make_tokenizer()
    encoder, denoiser, scheduler = make_text_encoder(len(tokenizer)), make_denoiser(), make_scheduler()
    both = torch.nn.ModuleList([encoder, denoiser])
    averaged = torch.optim.swa_utils.AveragedModel(
        both, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(_AVERAGE), use_buffers=True
    )
    optimizer = torch.optim.AdamW(both.parameters(), 1.5e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.5e-3, total_steps=steps, pct_start=0.1)
    both.train()
    for step in range(steps):
        drawn = batches.draw(_BATCH)
        captions = batches.captions(drawn, one_attribute=True, dropped=0.1)
        tokens = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        with torch.no_grad():
            latents = vae.encode(as_rgb(drawn.images)).latent_dist.sample(batches.generator)
            latents = latents * vae.config.scaling_factor
        noise = torch.randn(latents.shape, generator=batches.generator)
        times = torch.randint(scheduler.config.num_train_timesteps, (_BATCH,), generator=batches.generator)
        noisy = scheduler.add_noise(latents, noise, times)
        predicted = denoiser(noisy, times, encoder(tokens).last_hidden_state).sample
        loss = mse_loss(predicted, scheduler.get_velocity(latents, noise, times))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(both.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        averaged.update_parameters(both)
        progress(step + 1, steps)
    encoder, denoiser = averaged.module.children()
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=encoder.eval(),
        tokenizer=tokenizer,
        unet=denoiser.eval(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
