"""The script that trained the demo's models still runs from end to end."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from diffcore_gpu.demo.pretraining.batches import DigitBatches
from diffcore_gpu.demo.pretraining.captions import DAMAGES, attributes, ink, slant
from diffcore_gpu.demo.pretraining.tokenizer import MAX_TOKENS, make_tokenizer
from tests.programs import run_python

for package in ("sklearn", "diffusers", "transformers", "open_clip"):
    pytest.importorskip(package, reason=f"training the demo's models needs {package}")


@pytest.mark.slow
def test_a_few_steps_of_everything(tmp_path: Path) -> None:
    said = run_python("-m", "diffcore_gpu.demo.train_models", "--quick", "--out", tmp_path)
    assert "recognized by their prompt" in said
    assert (tmp_path / "digits-sd" / "unet" / "diffusion_pytorch_model.safetensors").is_file()
    assert (tmp_path / "digits-clip" / "open_clip_model.safetensors").is_file()


def test_attributes_are_measured() -> None:
    upright = torch.zeros(1, 1, 32, 32)
    upright[..., 4:28, 14:18] = 1
    right = torch.stack([line.roll((16 - row) // 4) for row, line in enumerate(upright[0, 0])])
    images = torch.stack([upright[0], right.unsqueeze(0), right.unsqueeze(0).flip(-1)])
    assert slant(images)[0].abs() < 1e-6
    assert slant(images)[1] == pytest.approx(0.25, abs=0.01)
    assert slant(images)[2] == pytest.approx(-0.25, abs=0.01)
    assert ink(upright).item() == pytest.approx(24 * 4 / 32**2)
    assert attributes(images) == [
        ["thin strokes", "upright"], ["thin strokes", "leaning to the right"], ["thin strokes", "leaning to the left"]
    ]  # fmt: skip


def test_batches_repeat_and_caption_what_they_show() -> None:
    first, second = (DigitBatches(3) for _ in range(2))
    drawn, again = first.draw(64), second.draw(64)
    assert torch.equal(drawn.images, again.images)
    assert drawn.images.min() >= 0
    assert drawn.images.max() <= 1
    captions = first.captions(drawn, one_attribute=True, dropped=0.0)
    assert captions == second.captions(again, one_attribute=True, dropped=0.0)
    damaged = [bool(damages) for damages in drawn.damages]
    assert 2 < sum(damaged) < 30
    for text, label, damages in zip(captions, drawn.labels.tolist(), drawn.damages, strict=True):
        assert any(word in text for word in DAMAGES) == bool(damages)
        assert bool(damages) or f" {label}, a handwritten digit" in text


def test_every_caption_fits_the_tokenizer() -> None:
    tokenizer = make_tokenizer()
    batches = DigitBatches(0)
    captions = batches.captions(batches.draw(200), one_attribute=False, dropped=0.1)
    tokens = tokenizer(captions, padding="max_length", return_tensors="pt").input_ids
    assert tokens.shape == (200, MAX_TOKENS)
    for text, line in zip(captions, tokens, strict=True):
        assert tokenizer.decode(line, skip_special_tokens=True).replace(" ,", ",").strip() == text
