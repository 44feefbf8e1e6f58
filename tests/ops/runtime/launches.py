"""What a launch through Triton and a kept launch hand to the driver, as JSON; a driver stands in that launches nothing.

``TRITON_INTERPRET=0 python -m tests.ops.runtime.launches``. It needs no GPU.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import diffcore_gpu as dc
from diffcore_gpu.benchmarks.ops import stand_in
from diffcore_gpu.geometry import CropMixOp
from diffcore_gpu.ops.crop_mix.op import launch_again as launch_crop_mix_again
from diffcore_gpu.ops.mix.op import launch_again as launch_mix_again
from diffcore_gpu.ops.runtime.launch import KeptLaunch
from tests.stores import write_store

SEEN: list[list[Any]] = []


def record(_: object, *arguments: Any) -> None:
    """The grid, and the address of each argument that has one; None for compile-time constants."""
    grid, given = arguments[:3], arguments[9:]
    addresses = [value.data_ptr() if isinstance(value, Tensor) else value for value in given]
    SEEN.append([list(grid), [value if type(value) is int and value > 1 << 20 else None for value in addresses]])


def launches(mix: dc.DiffCoreMix, images: Tensor, out: Tensor, labels: Tensor | None) -> dict[str, Any]:
    """Three calls with batches of one kind, the last at another address, and the last one again through Triton."""
    source, index = mix._op.source, torch.arange(8)
    if isinstance(mix._op, CropMixOp):
        launch = launch_crop_mix_again(source, mix._op.stage.arguments(), True)
    else:
        launch = launch_mix_again(source, True)
    kept = KeptLaunch(launch, source.constants)
    other = images.clone()
    batches = [(images, out), (images, out), (other, out)]
    for batch, target in batches:
        kept(batch, target, index, labels, mix.round, mix.status)
    launch(other, out, index, labels, mix.round, mix.status)
    first, again, moved, by_triton = SEEN[-4:]
    return {"first": first, "again": again, "moved": moved, "by Triton": by_triton}


def main() -> None:
    """Print {case: what the driver was handed}."""
    stand_in._Launcher.__call__ = record  # type: ignore[method-assign]
    found = {}
    with tempfile.TemporaryDirectory() as folder, stand_in.stand_in_driver():
        store = write_store(Path(folder) / "store")
        images = torch.randn(8, *store.image_shape)
        mix = dc.DiffCoreMix(store, residency="device")
        found["mix"] = launches(mix, images, torch.empty_like(images), None)
        found["mix with labels, in place"] = launches(mix, images, images, torch.arange(8) % 2)
        raw = torch.zeros(8, 3, 40, 40, dtype=torch.uint8)
        cropping = dc.DiffCoreMix(store, residency="device", geometry=dc.RandomResizedCropMirror((24, 24)))
        found["crop_mix"] = launches(cropping, raw, torch.zeros(8, 3, 24, 24), None)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
