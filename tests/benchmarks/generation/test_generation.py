"""The benchmark of generation: with the demo's models and with a tiny SDXL of random weights."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from diffcore_gpu.benchmarks.harness.command import Output

for package in ("sklearn", "diffusers", "transformers", "open_clip"):
    pytest.importorskip(package, reason=f"the benchmark of generation needs {package}")

generation = importlib.import_module("diffcore_gpu.benchmarks.generation.generation")


def run(model: str, percent: list[int], per_class: int) -> dict[str, Any]:
    settings = generation.Settings(model, per_class, batch=10, steps=2, size=16, tiny=True)
    result: dict[str, Any] = generation.run(settings, percent, torch.device("cpu"), Output("diffcore bench generation"))
    return result


def test_the_demos_models() -> None:
    result = run("digits", [50, 100], per_class=2)
    half, whole = result["results"]
    assert (half["percent"], half["wanted"], whole["wanted"]) == (50, 10, 20)
    for found in (half, whole):
        assert found["generated"] - found["discarded"] == found["wanted"] - found["never_passed"]
        assert found["seconds"]["denoiser"] > found["seconds"]["write"] > 0
        assert found["wall_seconds"] > found["seconds"]["denoiser"]
    lines = generation.tell(whole, real_filter=True).splitlines()
    assert lines[0].split()[:4] == ["augmented", "generated", "discarded", "seconds"]
    assert lines[1].startswith("100 %")
    assert "%" in lines[1].split()[3]
    json.dumps(result)


def test_sdxl_with_random_weights_says_so(tmp_path: Path) -> None:
    result = run("sdxl", [100], per_class=1)
    (found,) = result["results"]
    assert result["setting"]["weights"] == "random, in the sizes of SDXL"
    assert found["discarded"] == 0
    assert found["generated"] == found["wanted"] == 10
    assert "–" in generation.tell(found, real_filter=False)
