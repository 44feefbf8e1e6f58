"""The model of a gallery: where its weights come from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from diffcore_gpu.benchmarks.gallery.batch import load_model
from diffcore_gpu.benchmarks.training.models import make_model

for package in ("torchvision", "timm"):
    pytest.importorskip(package, reason=f"models need {package}")

MODEL = "squeezenet1_1"


@pytest.mark.parametrize("form", ["safetensors", "pt", "checkpoint"])
def test_weights_are_loaded(form: str, tmp_path: Path) -> None:
    torch.manual_seed(5)
    trained = make_model(MODEL, 3)
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pt")
    if form == "safetensors":
        save_file(trained.state_dict(), path)
    else:
        torch.save(trained.state_dict() if form == "pt" else {"model": trained.state_dict(), "epoch": 3}, path)
    model, words = load_model(MODEL, 3, weights=path, pretrained=False, seed=0)
    assert words == f"{MODEL} with weights of {path.name}"
    assert model.training
    for name, value in trained.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)


def test_random_weights_come_from_the_seed() -> None:
    first, same, other = (
        load_model(MODEL, 3, weights=None, pretrained=False, seed=seed)[0].state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
