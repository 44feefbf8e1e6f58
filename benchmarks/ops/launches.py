"""A few launches of the kernels, for profilers and sanitizers to look at: what `benchmarks/on_gpu.sh` runs under them.

ncu --clock-control none --kernel-name regex:mix python -m diffcore_gpu.benchmarks.ops.launches --batch 256
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
import typer

from diffcore_gpu import DiffCoreMix, RandomResizedCropMirror
from diffcore_gpu.benchmarks.harness.options import Batch, Device, Size
from diffcore_gpu.benchmarks.harness.random_data import MEAN, ROWS, STD, random_images, random_store


def main(device: Device = "cuda", batch: Batch = 64, size: Size = 224) -> None:
    """Pixels alone (contiguous), patches alone (channels_last), then crop and mix: bfloat16, one launch each."""
    where = torch.device(device)
    index = torch.arange(batch, device=where) % ROWS
    with tempfile.TemporaryDirectory() as folder:
        store = random_store(Path(folder) / "store", size)
        for pixel_prob, memory_format in ((1.0, "contiguous"), (0.0, "channels_last")):
            images = random_images(batch, size, "bfloat16", memory_format, where)
            mixed = DiffCoreMix(store, pixel_prob=pixel_prob, mean=MEAN, std=STD).to(where)(images, index)
            print(f"mix of {memory_format}, sum {mixed.double().sum():.1f}")
        crop = RandomResizedCropMirror((size, size))
        fused = DiffCoreMix(
            store, geometry=crop, dtype=torch.bfloat16, memory_format=torch.channels_last, mean=MEAN, std=STD
        ).to(where)
        raw = random_images(batch, size, "uint8", "contiguous", where)
        print(f"crop and mix, sum {fused(raw, index).double().sum():.1f}")


if __name__ == "__main__":
    typer.run(main)
