"""The model whose saliency a gallery's methods look at, with random, pretrained or given weights."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from diffcore_gpu.benchmarks.training.models import make_model
from diffcore_gpu.errors import BenchmarkError


def load_model(
    name: str, num_classes: int, *, weights: Path | None, pretrained: bool, seed: int
) -> tuple[nn.Module, str]:
    """A classifier in training mode on the CPU, and a few words about its weights.

    Args:
        name: see `make_model`.
        num_classes: K.
        weights: a state dict as .safetensors, or anything else as `torch.save` writes it: the dict, or a checkpoint
            that holds it as "model".
        pretrained: the library's ImageNet weights; the classifying layer is random.
        seed: of random weights.

    Raises:
        BenchmarkError: both kinds of weights are asked for, there is no such model, or the file does not hold its
            weights.
    """
    if weights is not None and pretrained:
        raise BenchmarkError("--weights and --pretrained exclude each other; give one of them.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make_model(name, num_classes, pretrained=pretrained).train()
    if weights is None:
        return model, f"{name} with pretrained weights" if pretrained else f"a model with random weights ({name})"
    state = _state(weights)
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        first = " ".join(" ".join(str(error).splitlines()[1:2] or [str(error)]).split())
        raise BenchmarkError(
            f"--weights {weights}: do not fit {name} with {num_classes} classes: {first[:200]}."
        ) from None
    return model, f"{name} with weights of {weights.name}"


def _state(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise BenchmarkError(f"--weights {path}: there is no such file.") from None
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError, SafetensorError):
        raise BenchmarkError(
            f"--weights {path}: cannot be read as a state dict; give .safetensors, or what torch.save wrote of tensors."
        ) from None
    return state["model"] if isinstance(state, dict) and isinstance(state.get("model"), dict) else state
