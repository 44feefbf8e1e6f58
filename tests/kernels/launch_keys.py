"""What Triton would compile for launches of every kernel with batches of several sizes and addresses, as JSON.

``TRITON_INTERPRET=0 python -m tests.kernels.launch_keys``. No GPU is needed: the launchers run on tensors of the host,
and what they would launch is bound as Triton binds it, but not run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from triton.compiler import make_backend
from triton.runtime.jit import create_function_from_signature

from diffcore_gpu.kernels import crop_mix, mix, resized_crop, spec
from diffcore_gpu.kernels.ahead_of_time import KERNELS, TARGETS, specialize

BACKEND = make_backend(TARGETS["sm_90"])
# (batch, elements by which all that is small lies beside an aligned address)
CASES = {"16": (16, 0), "17": (17, 0), "1": (1, 0), "16 at an odd address": (16, 1), "1 at an odd address": (1, 1)}


class Recorder:
    """In place of a kernel: keeps what a launch would be compiled for."""

    def __init__(self, kernel: Any) -> None:
        self.binder = create_function_from_signature(kernel.signature, kernel.params, BACKEND)
        self.seen: Any = None

    def __getitem__(self, grid: tuple[int]) -> Callable[..., None]:
        def bind(*arguments: Any, **options: Any) -> None:
            _, self.seen, _ = self.binder(*arguments, debug=False, **options)

        return bind


def launches(batch: int, at: int) -> Iterator[tuple[str, Callable[[], None]]]:
    """Every kernel with a launch of it; all that is small begins `at` elements after an aligned address."""

    def small(dtype: torch.dtype, *shape: int) -> Tensor:
        return torch.zeros(at + math.prod(shape), dtype=dtype)[at:].view(shape)

    def integers(*shape: int) -> Tensor:
        return small(torch.int64, *shape)

    images, store = torch.zeros(batch, 3, 224, 224), torch.zeros(batch, 3, 224, 224, dtype=torch.uint8)
    raw, rows = (torch.zeros(batch, 3, 256, 256, dtype=torch.uint8) for _ in range(2))
    norm = small(torch.float32, 2, 3, 4)
    drawn = mix.Drawn(
        index=integers(batch), labels=None, round=integers(1), status=small(torch.int32, 4),
        constants=integers(len(spec.CONSTANTS)), advance=True, lam_table=False, box_inside=False, best_row=False,
        store_planar=True,
    )  # fmt: skip
    crops = crop_mix.DrawnCrops((0, 0, 256, 256), (0, 0, 256, 256), same=False)
    plan = [
        integers(batch), small(torch.bool, batch), small(torch.float32, batch), small(torch.int32, batch, 4),
        small(torch.bool, batch),
    ]  # fmt: skip
    boxes = [small(torch.int32, batch, 4), small(torch.bool, batch)]
    packed = small(torch.uint8, (batch + 15) // 16 * 16 * 64)
    out = images.clone()
    places = 0, 8, 9, 13, 29
    yield "mix_store", lambda: mix.launch_mix_store(images, out, drawn, packed, places)
    yield "mix_plan", lambda: mix.launch_mix_plan(images, out, store, norm, plan)
    yield "resized_crop", lambda: resized_crop.launch_resized_crop(raw, out, *boxes, norm)
    places += 30, 46, 47, 63
    yield (
        "crop_mix_store",
        lambda: crop_mix.launch_crop_mix_store(raw, out, rows.shape[-2:], drawn, crops, packed, places),
    )
    with_crops = [*plan, *boxes, *boxes]
    yield "crop_mix_plan", lambda: crop_mix.launch_crop_mix_plan(raw, out, rows, norm, with_crops)


def ahead_of_time(kernel: str) -> list[tuple[str, str | None]]:
    """The types and divisible pointers that `ahead_of_time` compiles a kernel for."""
    source = specialize(kernel, "sm_90", "fp32", True, WRITE_PLAN=True)
    types = enumerate(source.signature.values())
    return [(given, "D" if (position,) in source.attrs else None) for position, given in types]


def main() -> None:
    """Print {kernel: {case: [(type, specialization or constant) of every argument]}}."""
    recorders = {name: Recorder(kernel) for name, kernel in KERNELS.items()}
    for name, recorder in recorders.items():
        module = {"mix_store": mix, "mix_plan": mix, "resized_crop": resized_crop}.get(name, crop_mix)
        setattr(module, f"{name}_kernel", recorder)
    keys: dict[str, dict[str, Any]] = {name: {"ahead of time": ahead_of_time(name)} for name in KERNELS}
    for case, (batch, at) in CASES.items():
        for name, launch in launches(batch, at):
            launch()
            keys[name][case] = recorders[name].seen
    print(json.dumps(keys))


if __name__ == "__main__":
    main()
