"""The benchmark of generation: with the demo's models and with a tiny SDXL of random weights."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path

import pytest

for package in ("sklearn", "diffusers", "transformers", "open_clip"):
    pytest.importorskip(package, reason=f"the benchmark of generation needs {package}")

generation = importlib.import_module("diffcore_gpu.benchmarks.generation.generation")


def options(**settings: object) -> argparse.Namespace:
    common = {
        "json": None,
        "budget_minutes": None,
        "command": "",
        "device": "cpu",
        "percent": [50, 100],
        "per_class": 2,
        "batch": 10,
        "steps": 2,
        "size": 16,
        "tiny": True,
    }
    return argparse.Namespace(**{**common, **settings})


def test_the_demos_models() -> None:
    result = generation.run(options(model="digits"))
    half, whole = result["results"]
    assert (half["percent"], half["wanted"], whole["wanted"]) == (50, 10, 20)
    for run in (half, whole):
        assert run["generated"] - run["discarded"] == run["wanted"] - run["never_passed"]
        assert run["seconds"]["denoiser"] > run["seconds"]["write"] > 0
        assert run["wall_seconds"] > run["seconds"]["denoiser"]
    lines = generation.tell(whole, real_filter=True).splitlines()
    assert lines[0].split()[:4] == ["augmented", "generated", "discarded", "seconds"]
    assert lines[1].startswith("100 %")
    assert "%" in lines[1].split()[3]
    json.dumps(result)


def test_sdxl_with_random_weights_says_so(tmp_path: Path) -> None:
    result = generation.run(options(model="sdxl", percent=[100], per_class=1))
    (run,) = result["results"]
    assert result["setting"]["weights"] == "random, in the sizes of SDXL"
    assert run["discarded"] == 0
    assert run["generated"] == run["wanted"] == 10
    assert "–" in generation.tell(run, real_filter=False)
