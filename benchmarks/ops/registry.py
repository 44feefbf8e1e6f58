"""The suites of ops as data: how each is measured, and in which configurations unless others are asked for.

`runner` measures them; what is compared, and the figures, are in the module of each suite.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from diffcore_gpu.benchmarks.harness.random_data import DTYPES, FORMATS


@dataclass(frozen=True)
class Op:
    """How one suite measures.

    Attributes:
        suite: its name.
        parts: what tells the parts of a run apart, as the result file calls it, the outermost loop first.
        batch, size, dtype, memory_format: the configurations that are measured, one or more of each.
        repeats, warmup: rounds that are measured, and rounds before them.
        device: where, unless another is asked for.
        packages: whose versions a result names.
        host_clock: the time is the host's on every device, and the device is waited for before an action.
        head_start: the device begins when the host has queued the whole action.
        shuffle: the order of the actions is drawn anew for every round.
    """

    suite: str
    parts: Sequence[str]
    batch: list[int]
    repeats: int
    size: list[int] = field(default_factory=lambda: [224])
    dtype: list[str] = field(default_factory=lambda: ["bfloat16"])
    memory_format: list[str] = field(default_factory=lambda: ["contiguous"])
    warmup: int = 5
    device: str = "cuda"
    packages: Sequence[str] = ()
    host_clock: bool = False
    head_start: bool = False
    shuffle: bool = True


PEERS = Op(
    "peers",
    parts=("dtype", "memory_format", "batch"),
    batch=[16, 32, 64, 128],
    dtype=["float32"],
    repeats=50,
    device="cpu",
    packages=("torchvision", "kornia", "timm"),
)
BANDWIDTH = Op(
    "bandwidth",
    parts=("size", "dtype", "memory_format", "batch"),
    batch=[16, 64, 256, 512],
    size=[224, 256],
    dtype=list(DTYPES),
    memory_format=list(FORMATS),
    repeats=30,
    head_start=True,
)
HOST_OVERHEAD = Op(
    "host-overhead", parts=("batch",), batch=[16], repeats=200, warmup=20, packages=("triton",), host_clock=True
)
GEOMETRY = Op(
    "geometry",
    parts=("dtype", "batch"),
    batch=[16, 64, 256],
    memory_format=["channels_last"],
    repeats=30,
    warmup=3,
    packages=("torchvision", "timm"),
)
RESIDENCY = Op(
    "residency",
    parts=("batch",),
    batch=[64, 256],
    dtype=["float32"],
    memory_format=["channels_last"],
    repeats=8,
    warmup=1,
    packages=("torchvision", "timm"),
    host_clock=True,
    shuffle=False,
)
