"""Trains the demo's models from scikit-learn's digits, on two processor cores in well under 40 minutes.

    python -m diffcore_gpu.demo.train_models --out DIR

writes DIR/digits-sd (a diffusers StableDiffusionPipeline) and DIR/digits-clip (an open_clip model), then checks both on
digits that they have not seen. `--quick` takes a few steps only, to see that everything runs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch

from diffcore_gpu.demo.pretraining.autoencoder import train_autoencoder
from diffcore_gpu.demo.pretraining.batches import DigitBatches
from diffcore_gpu.demo.pretraining.clip import train_clip
from diffcore_gpu.demo.pretraining.diffusion import train_pipeline

STEPS = {"clip": 2000, "autoencoder": 1000, "pipeline": 6000}
QUICK_STEPS = dict.fromkeys(STEPS, 3)
_SEED = 20250711


def _progress(name: str) -> Callable[[int, int], None]:
    started = time.monotonic()

    def show(done: int, total: int) -> None:
        if done % max(1, total // 20) == 0:
            print(f"{name}: {done} of {total} steps, {time.monotonic() - started:.0f} s", flush=True)

    return show


def train_all(out: Path, steps: dict[str, int]) -> None:
    """Train both models and write them into `out`."""
    torch.manual_seed(_SEED)
    train_clip(DigitBatches(_SEED), steps["clip"], out / "digits-clip", _progress("image and text"))
    torch.manual_seed(_SEED)
    vae = train_autoencoder(DigitBatches(_SEED + 1), steps["autoencoder"], _progress("autoencoder"))
    pipeline = train_pipeline(DigitBatches(_SEED + 2), vae, steps["pipeline"], _progress("text to image"))
    pipeline.save_pretrained(out / "digits-sd", safe_serialization=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the folder for both models")
    parser.add_argument("--quick", action="store_true", help="a few steps only")
    options = parser.parse_args()
    started = time.monotonic()
    train_all(options.out, QUICK_STEPS if options.quick else STEPS)
    print(f"Trained in {time.monotonic() - started:.0f} s.")
    from diffcore_gpu.demo.model_checks import check_models

    for line in check_models(options.out).lines():
        print(line)


if __name__ == "__main__":
    main()
