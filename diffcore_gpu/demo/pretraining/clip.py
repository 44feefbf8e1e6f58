"""The demo's image–text model: an open_clip model of 32×32 images, trained contrastively on digits and captions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from diffcore_gpu.demo.pretraining.batches import DigitBatches
from diffcore_gpu.demo.pretraining.tokenizer import MAX_TOKENS, make_tokenizer

_BATCH = 128
_MEAN, _STD = 0.27, 0.36
_BARE = 0.7
"""Share of the captions without attributes: with more attributes, digits of one class move apart from each other."""


def clip_config(vocabulary: int) -> dict[str, Any]:
    """What open_clip reads from `open_clip_config.json`."""
    return {
        "model_cfg": {
            "embed_dim": 48,
            "vision_cfg": {"image_size": 32, "patch_size": 4, "layers": 3, "width": 64, "head_width": 16},
            "text_cfg": {
                "context_length": MAX_TOKENS,
                "vocab_size": vocabulary,
                "width": 48,
                "heads": 4,
                "layers": 2,
                "hf_tokenizer_name": ".",  # the files beside this one
            },
        },
        "preprocess_cfg": {
            "mean": [_MEAN] * 3,
            "std": [_STD] * 3,
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }


def train_clip(batches: DigitBatches, steps: int, folder: Path, progress: Callable[[int, int], None]) -> None:
    """Train it and write it to a folder that open_clip opens as ``local-dir:FOLDER``.

    Args:
        batches: source of images and captions.
        steps: of 128 images each.
        folder: it is made if it is missing.
        progress: gets (done, total) steps.
    """
    import open_clip
    from safetensors.torch import save_file

    tokenizer = make_tokenizer()
    config = clip_config(len(tokenizer))
    parts = config["model_cfg"]
    text_cfg = {name: value for name, value in parts["text_cfg"].items() if name != "hf_tokenizer_name"}
    model = open_clip.CLIP(embed_dim=parts["embed_dim"], vision_cfg=parts["vision_cfg"], text_cfg=text_cfg)
    loss_of = open_clip.ClipLoss()
    optimizer = torch.optim.AdamW(model.parameters(), 1.5e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.5e-3, total_steps=steps, pct_start=0.1)
    model.train()
    for step in range(steps):
        drawn = batches.draw(_BATCH)
        captions = batches.captions(drawn, one_attribute=False, bare=_BARE)
        tokens = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        images = ((drawn.images - _MEAN) / _STD).expand(-1, 3, -1, -1)
        image_features, text_features, scale = model(images, tokens)
        loss = loss_of(image_features, text_features, scale.clamp(max=20.0))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        progress(step + 1, steps)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    weights = {name: value.detach().contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors", {"format": "pt"})
