"""What the compiled kernels ask of memory, against what each kernel's header says must move.

Counted are the distinct 32-byte sectors of each request of a warp, without any cache.
"""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from diffcore_gpu.ops.mix.reference import real_weight
from diffcore_gpu.plan import PlanConfig
from tests.kernels.test_mix import Batch
from tests.ptx.cases import DTYPES, FORMATS
from tests.ptx.launching import Emulator, Launch
from tests.ptx.memory import SECTOR

pytestmark = pytest.mark.ptx
SIZE = (64, 96)  # whole tiles, and sectors that no two samples share
WAYS = {
    "unmixed": {"p": 0.0},
    "pixel-wise": {"p": 1.0, "pixel_prob": 1.0, "lam": 0.5},
    "patch-wise": {"p": 1.0, "pixel_prob": 0.0},
}

COMBINATIONS = list(product(DTYPES, FORMATS, WAYS))


def launch_of(emulator: Emulator, dtype: str, layout: str, way: str) -> tuple[Launch, Tensor]:
    """A launch on samples that all have counterparts, and where the real image shows: bool [B, 1, height, width]."""
    batch = Batch.make(4, (3, *SIZE), DTYPES[dtype], FORMATS[layout])
    batch.store = batch.store.to(memory_format=FORMATS[layout])
    counts = batch.pairs.pair_ptr.diff()
    batch.index = counts.nonzero()[:4, 0]
    config = PlanConfig(**WAYS[way])
    with emulator.recording(sectors=True) as launches:
        batch.run(config, with_plan=False)
    return launches[0], real_weight(batch.drawn(config), *SIZE) == 1


def sectors_of(launch: Launch, *, touched: bool) -> dict[str, int]:
    """Sectors of the images, of the store and of the output: touched by a block, or asked for by warps."""
    found = dict.fromkeys(("images", "store", "out"), 0)
    for (name, _), requests in launch.requests.items():
        if name in found:
            found[name] += len(requests.touched) if touched else requests.sectors
    return found


def sectors_that_hold(shown: Tensor, layout: str, size: int) -> int:
    """Sectors with a value that shows, of tensors [B, 3, height, width] with `size` bytes per value."""
    values = shown.expand(-1, 3, -1, -1).contiguous(memory_format=FORMATS[layout])
    in_order = values if layout == "planar" else values.permute(0, 2, 3, 1)
    return int(in_order.reshape(-1, SECTOR // size).any(1).sum())


@pytest.mark.parametrize(("dtype", "layout", "way"), COMBINATIONS)
def test_what_must_move_is_touched_and_nothing_else(emulator: Emulator, dtype: str, layout: str, way: str) -> None:
    size = torch.empty(0, dtype=DTYPES[dtype]).element_size()
    launch, real = launch_of(emulator, dtype, layout, way)
    moved = sectors_of(launch, touched=True)
    both = torch.ones_like(real)
    assert moved["out"] == sectors_that_hold(both, layout, size)
    assert moved["images"] == sectors_that_hold(both if way == "pixel-wise" else real, layout, size)
    assert moved["store"] == sectors_that_hold(both if way == "pixel-wise" else ~real, layout, 1)


@pytest.mark.parametrize(("dtype", "layout", "way"), COMBINATIONS)
def test_no_sector_is_asked_for_twice(emulator: Emulator, dtype: str, layout: str, way: str) -> None:
    """Threads hold the values of one 16-byte load of the images, so the loads of a warp lie side by side."""
    launch, _ = launch_of(emulator, dtype, layout, way)
    assert sectors_of(launch, touched=False) == sectors_of(launch, touched=True)
