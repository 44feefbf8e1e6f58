"""Genuine models of diffusers and open_clip, tiny and random; the pipelines' tokenizer knows single letters.

Where one of these libraries is missing, the modules that import this one are skipped.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

diffusers, open_clip, transformers = (
    pytest.importorskip(package, reason=f"genuine models need {package}")
    for package in ("diffusers", "open_clip", "transformers")
)

WIDTH = 32


def tokenizer(folder: Path) -> transformers.CLIPTokenizer:
    """One token for each letter, within and at the end of a word."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(code) for code in range(33, 127)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=32)


def text_encoder(
    words: transformers.CLIPTokenizer, kind: type = transformers.CLIPTextModel
) -> transformers.CLIPTextModel | transformers.CLIPTextModelWithProjection:
    """Two layers."""
    return kind(
        transformers.CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=WIDTH,
            intermediate_size=37,
            projection_dim=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=32,
            bos_token_id=words.bos_token_id,
            eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id,
        )
    ).eval()


def vae() -> diffusers.AutoencoderKL:
    """From 4 x 4 to 8 x 8 pixels."""
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
    ).eval()


def unet(cross_attention_dim: int = WIDTH, **more: object) -> diffusers.UNet2DConditionModel:
    """Two levels, one with cross-attention."""
    made = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=cross_attention_dim,
        attention_head_dim=4,
        **more,
    ).eval()
    for name, weight in made.named_parameters():
        if "attn2.to_" in name:  # random weights hardly listen to the prompt; these do
            weight.data *= 5
    return made


def stable_diffusion(
    folder: Path, scheduler: object = None, **unet_changes: object
) -> diffusers.StableDiffusionPipeline:
    """Of 16 x 16 pixels; random weights, the same in every call."""
    torch.manual_seed(0)
    words = tokenizer(folder / "words")
    return diffusers.StableDiffusionPipeline(
        vae=vae(),
        text_encoder=text_encoder(words),
        tokenizer=words,
        unet=unet(**unet_changes),
        scheduler=scheduler or diffusers.DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def stable_diffusion_xl(folder: Path) -> diffusers.StableDiffusionXLPipeline:
    """Likewise, with the two text encoders of SDXL."""
    torch.manual_seed(0)
    words = tokenizer(folder / "words")
    return diffusers.StableDiffusionXLPipeline(
        vae=vae(),
        text_encoder=text_encoder(words),
        text_encoder_2=text_encoder(words, transformers.CLIPTextModelWithProjection),
        tokenizer=words,
        tokenizer_2=words,
        unet=unet(
            2 * WIDTH,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + WIDTH,
            use_linear_projection=True,
        ),
        scheduler=diffusers.EulerDiscreteScheduler(),
    )


def image_text_model(folder: Path) -> Path:
    """A model of open_clip as a folder, for images of 16 x 16 pixels."""
    vision = {"image_size": 16, "layers": 2, "width": 32, "head_width": 16, "patch_size": 4}
    text = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    model = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    save_file(open_clip.CLIP(**model).state_dict(), folder / "open_clip_model.safetensors")
    config = {"model_cfg": model, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder
