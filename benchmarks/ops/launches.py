"""A few launches of the kernels, for profilers and sanitizers to look at: what `benchmarks/on_gpu.sh` runs under them.

ncu --clock-control none --kernel-name regex:mix python -m diffcore_gpu.benchmarks.ops.launches --batch 256
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from diffcore_gpu import DiffCoreMix, RandomResizedCropMirror
from diffcore_gpu.benchmarks.harness.options import positive
from diffcore_gpu.benchmarks.harness.random_data import MEAN, ROWS, STD, random_images, random_store


def main(arguments: Sequence[str] | None = None) -> None:
    """Pixels alone (contiguous), patches alone (channels_last), then crop and mix: bfloat16, one launch each."""
    parser = argparse.ArgumentParser(prog="launches", description=main.__doc__, allow_abbrev=False)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--batch", type=positive, default=64)
    parser.add_argument("--size", type=positive, default=224)
    options = parser.parse_args(arguments)
    device, size = torch.device(options.device), options.size
    index = torch.arange(options.batch, device=device) % ROWS
    with tempfile.TemporaryDirectory() as folder:
        store = random_store(Path(folder) / "store", size)
        for pixel_prob, memory_format in ((1.0, "contiguous"), (0.0, "channels_last")):
            images = random_images(options.batch, size, "bfloat16", memory_format, device)
            mixed = DiffCoreMix(store, pixel_prob=pixel_prob, mean=MEAN, std=STD).to(device)(images, index)
            print(f"mix of {memory_format}, sum {mixed.double().sum():.1f}")
        crop = RandomResizedCropMirror((size, size))
        fused = DiffCoreMix(
            store, geometry=crop, dtype=torch.bfloat16, memory_format=torch.channels_last, mean=MEAN, std=STD
        ).to(device)
        raw = random_images(options.batch, size, "uint8", "contiguous", device)
        print(f"crop and mix, sum {fused(raw, index).double().sum():.1f}")


if __name__ == "__main__":
    main()
