"""What the compiled kernels ask of memory, against what each kernel's header says must move.

Counted are the distinct 32-byte sectors of each request of a warp, without any cache.
"""

from itertools import product

import pytest
import torch

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


def launch_of(emulator: Emulator, dtype: str, layout: str, way: str) -> Launch:
    batch = Batch.make(4, (3, *SIZE), DTYPES[dtype], FORMATS[layout])
    batch.store = batch.store.to(memory_format=FORMATS[layout])
    counts = batch.pairs.pair_ptr.diff()
    batch.index = counts.nonzero()[:4, 0]
    with emulator.recording(sectors=True) as launches:
        batch.run(PlanConfig(**WAYS[way]), with_plan=False)
    return launches[0]


def per_value(launch: Launch, *, touched: bool) -> dict[str, float]:
    """Bytes in sectors per value of the output: of the images, of the store and of the output."""
    found = dict.fromkeys(("images", "store", "out"), 0.0)
    for (name, _), requests in launch.requests.items():
        if name in found:
            sectors = len(requests.touched) if touched else requests.sectors
            found[name] += sectors * SECTOR / launch.values
    return found


@pytest.mark.parametrize(("dtype", "layout", "way"), COMBINATIONS)
def test_no_more_is_touched_than_must_move(emulator: Emulator, dtype: str, layout: str, way: str) -> None:
    size = torch.empty(0, dtype=DTYPES[dtype]).element_size()
    moved = per_value(launch_of(emulator, dtype, layout, way), touched=True)
    assert moved["out"] == size
    if way == "patch-wise":  # each value comes from one of the two; the sectors at a patch's border from both
        assert moved["images"] / size + moved["store"] == pytest.approx(1, abs=0.25)
        assert moved["images"] <= size
        assert moved["store"] <= 1
    else:
        assert moved["images"] == size
        assert moved["store"] == (1 if way == "pixel-wise" else 0)


@pytest.mark.parametrize(("dtype", "layout", "way"), COMBINATIONS)
def test_each_sector_is_written_once(emulator: Emulator, dtype: str, layout: str, way: str) -> None:
    size = torch.empty(0, dtype=DTYPES[dtype]).element_size()
    assert per_value(launch_of(emulator, dtype, layout, way), touched=False)["out"] == size


@pytest.mark.parametrize(("dtype", "layout", "way"), COMBINATIONS)
def test_no_sector_is_asked_for_more_often_than_loads_are_wide(
    emulator: Emulator, dtype: str, layout: str, way: str
) -> None:
    """The store and bytes are asked for once; of wider images, the 16-byte loads of a thread may lie side by side, so
    that each sector is asked for by two of them: the second time the first-level cache has it.
    """  # fmt: skip
    launch = launch_of(emulator, dtype, layout, way)
    once, asked = per_value(launch, touched=True), per_value(launch, touched=False)
    assert asked["store"] == once["store"]
    assert asked["images"] <= once["images"] * (1 if dtype == "u8" else 2)
