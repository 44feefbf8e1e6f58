"""The shipped models: that they are what they claim to be, and that they mean something."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from diffcore_gpu.demo.model_checks import MODELS, check_models, text_to_image_options
from diffcore_gpu.demo.pretraining.captions import caption
from diffcore_gpu.generation.model_loading import load_text_to_image
from diffcore_gpu.generation.prompts import BUILT_IN

for package in ("sklearn", "diffusers", "transformers", "open_clip"):
    pytest.importorskip(package, reason=f"the demo's models need {package}")


def test_only_safetensors_and_small() -> None:
    files = [path for path in MODELS.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".md"}
    assert sum(path.stat().st_size for path in files) < 8_000_000
    index = json.loads((MODELS / "digits-sd" / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionPipeline"
    for part in ("vae", "unet", "text_encoder", "tokenizer", "scheduler"):
        assert (MODELS / "digits-sd" / part).is_dir()


def test_no_path_of_a_machine_is_left_in_the_configurations() -> None:
    for path in MODELS.rglob("*.json"):
        text = path.read_text()
        assert "/tmp" not in text, path
        assert "/home" not in text, path


def test_captions_of_training_are_the_prompts() -> None:
    prompts = BUILT_IN["digit"]
    words = ("thin strokes", "bold strokes", "leaning to the left", "leaning to the right", "upright")
    for label in (3, 8):
        rendered = {prompts.render(number, str(label)) for number in range(len(prompts.contextual))}
        assert rendered == {caption(label, [name]) for name in words}
    assert prompts.render_negative("3") == "blurred, noisy, empty, cut off"


def test_the_models_mean_something() -> None:
    checks = check_models(per_prompt=6)
    assert checks.recognized >= 0.9
    assert checks.auc >= 0.9
    assert checks.bold_minus_thin > 0.03
    assert checks.right_minus_left > 0.1


def test_the_negative_prompt_is_heeded() -> None:
    """Asked for what it is told to avoid, the model draws something else than a digit."""
    model = load_text_to_image(text_to_image_options())
    prompts = ["a 3, a handwritten digit, upright"] * 8
    usual = model.generate(prompts, ["blurred, noisy, empty, cut off"] * 8, range(8))
    reversed_ = model.generate(["blurred, noisy, empty, cut off"] * 8, prompts, range(8))
    other = model.generate(prompts, ["a 3, a handwritten digit, upright"] * 8, range(8))
    assert not torch.equal(usual, other)
    brightest = [images.float().flatten(1).quantile(0.95, dim=1).mean() for images in (usual, reversed_)]
    assert brightest[0] > brightest[1] + 20


def test_the_weights_are_not_pickled(tmp_path: Path) -> None:
    for path in MODELS.rglob("*.safetensors"):
        assert path.read_bytes()[8:9] == b"{", path
