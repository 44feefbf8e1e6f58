"""A pipeline of `tiny_models` as one checkpoint file, in the names that Stable Diffusion was first published with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from safetensors.torch import save_file

from tests.generation.tiny_models import diffusers

single_file_utils = pytest.importorskip("diffusers.loaders.single_file_utils", reason="a checkpoint needs diffusers")

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def save_single_file(pipeline: diffusers.StableDiffusionPipeline, path: Path) -> Path:
    """Write the checkpoint and return its path."""
    parts = (
        ("model.diffusion_model.", pipeline.unet, _unet_name),
        ("first_stage_model.", pipeline.vae, _vae_name),
        ("cond_stage_model.transformer.", pipeline.text_encoder, _text_name),
    )
    tensors = {
        prefix + rename(name): value.contiguous()
        for prefix, part, rename in parts
        for name, value in part.state_dict().items()
    }
    save_file(tensors, path)
    return path


def _text_name(name: str) -> str:
    return name if name.startswith("text_model.") else f"text_model.{name}"


def _unet_name(name: str) -> str:
    outer = single_file_utils.DIFFUSERS_TO_LDM_MAPPING["unet"]["layers"]
    if name in outer:
        return outer[name]
    if found := re.fullmatch(r"(down|up)_blocks\.(\d)\.(resnets|attentions)\.(\d)\.(.+)", name):
        side, block, kind, layer, rest = found.groups()
        number = 2 * int(block) + int(layer)
        place = f"input_blocks.{number + 1}" if side == "down" else f"output_blocks.{number}"
        return f"{place}.{int(kind == 'attentions')}.{_resnet(rest) if kind == 'resnets' else rest}"
    if found := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", name):
        kind, layer, rest = found.groups()
        return f"middle_block.{2 * int(layer) + (kind == 'attentions')}.{_resnet(rest) if kind == 'resnets' else rest}"
    if found := re.fullmatch(r"down_blocks\.(\d)\.downsamplers\.0\.conv\.(.+)", name):
        return f"input_blocks.{2 * int(found[1]) + 2}.0.op.{found[2]}"
    found = re.fullmatch(r"up_blocks\.0\.upsamplers\.0\.(.+)", name)  # it has attention, hence the 2
    return f"output_blocks.1.2.{found[1]}"


def _vae_name(name: str) -> str:
    outer = single_file_utils.DIFFUSERS_TO_LDM_MAPPING["vae"]
    if name in outer:
        return outer[name]
    name = re.sub(r"up_blocks\.(\d)", lambda found: f"up.{1 - int(found[1])}", name)
    name = name.replace("down_blocks", "down").replace("conv_shortcut", "nin_shortcut")
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", name)
    name = re.sub(r"(down|up)samplers\.0", r"\1sample", name).replace("resnets", "block")
    if "mid_block.attentions.0" in name:
        for new, old in _ATTENTION.items():
            name = name.replace(f".{new}.", f".{old}.")
    return name.replace("mid_block.attentions.0", "mid.attn_1")


def _resnet(name: str) -> str:
    first, rest = name.split(".", 1)
    return f"{_RESNET[first]}.{rest}"
