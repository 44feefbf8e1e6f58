"""A Stable Diffusion XL pipeline with random weights: the arithmetic of the real one, at the price of no download.

The sizes are those of the published configuration of SDXL base 1.0 (Podell, English, Lacey, Blattmann, Dockhorn,
Müller, Penna, Rombach, "SDXL: Improving Latent Diffusion Models for High-Resolution Image Synthesis", arXiv 2307.01952,
2023); `tiny` keeps the structure and shrinks every width, so that a test can run it on a processor.
"""

from __future__ import annotations

from typing import Any

import torch

from diffcore_gpu.demo.pretraining.tokenizer import make_tokenizer

_FULL: dict[str, Any] = {
    "unet": {"block_out_channels": (320, 640, 1280), "heads": (5, 10, 20), "depth": (1, 2, 10), "sample_size": 128},
    "vae": {"block_out_channels": (128, 256, 512, 512), "norm_num_groups": 32},
    "small_text": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
    "large_text": {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20},
    "time_dim": 256,
}
_TINY: dict[str, Any] = {
    "unet": {"block_out_channels": (8, 16, 16), "heads": (1, 2, 2), "depth": (1, 1, 2), "sample_size": 8},
    "vae": {"block_out_channels": (8, 8, 8, 8), "norm_num_groups": 4},
    "small_text": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
    "large_text": {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2},
    "time_dim": 8,
}


def _text_config(sizes: dict[str, int], vocabulary: int) -> Any:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=vocabulary,
        max_position_embeddings=77,
        projection_dim=sizes["hidden_size"],
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
        **sizes,
    )


def random_sdxl(*, tiny: bool, dtype: torch.dtype, device: torch.device) -> Any:
    """A StableDiffusionXLPipeline with random weights.

    Args:
        tiny: a few thousand weights instead of 3.5 billion.
        dtype: of the weights.
        device: where they are made, so that no copy of them passes through the host.
    """
    from diffusers import (
        AutoencoderKL,
        EulerDiscreteScheduler,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    sizes = _TINY if tiny else _FULL
    tokenizer = make_tokenizer()
    tokenizer.model_max_length = 77
    small, large = (_text_config(sizes[name], len(tokenizer)) for name in ("small_text", "large_text"))
    unet = sizes["unet"]
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            parts = {
                "text_encoder": CLIPTextModel(small),
                "text_encoder_2": CLIPTextModelWithProjection(large),
                "unet": UNet2DConditionModel(
                    sample_size=unet["sample_size"],
                    block_out_channels=unet["block_out_channels"],
                    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                    layers_per_block=2,
                    attention_head_dim=unet["heads"],
                    transformer_layers_per_block=unet["depth"],
                    cross_attention_dim=small.hidden_size + large.hidden_size,
                    use_linear_projection=True,
                    addition_embed_type="text_time",
                    addition_time_embed_dim=sizes["time_dim"],
                    projection_class_embeddings_input_dim=large.projection_dim + 6 * sizes["time_dim"],
                    norm_num_groups=4 if tiny else 32,
                ),
                "vae": AutoencoderKL(
                    down_block_types=("DownEncoderBlock2D",) * 4,
                    up_block_types=("UpDecoderBlock2D",) * 4,
                    layers_per_block=2,
                    latent_channels=4,
                    scaling_factor=0.13025,
                    force_upcast=False,
                    **sizes["vae"],
                ),
            }
    finally:
        torch.set_default_dtype(default)
    for part in parts.values():
        part.eval().requires_grad_(False)
    return StableDiffusionXLPipeline(
        **parts,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            timestep_spacing="leading",
            steps_offset=1,
        ),
        add_watermarker=False,
    )
