"""The transform alone against those that a user would otherwise pick, on the same batch, taking turns.

Peers: torchvision v2 `MixUp` and `CutMix`, kornia `RandomMixUpV2` and `RandomCutMixV2`, timm `Mixup` (per batch and per
element; mixup and cutmix). They mix the images of a batch with each other; diffcore-gpu mixes each with its own
counterpart, which it reads from a store and normalizes, with λ, box and kind of its own. timm writes into the batch
that it is given, like `inplace=True` here; all others return a new one. Before every call the batch is restored,
unmeasured, so each call finds it where a data loader or a copy to the GPU leaves it. What a call returned is freed
before the next, as in a training loop; on the CPU diffcore-gpu keeps that memory for its next output.

    diffcore bench peers --threads 2 --json benchmarks/results/DEVICE/peers.json
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffcore_gpu import CounterpartStore, DiffCoreMix
from diffcore_gpu.benchmarks.harness.measure import interleaved, summary, table, within_noise
from diffcore_gpu.benchmarks.harness.options import SuiteParser, device_of, positive
from diffcore_gpu.benchmarks.harness.random_data import (
    CLASSES,
    DTYPES,
    FORMATS,
    MEAN,
    ROWS,
    STD,
    random_images,
    random_store,
)
from diffcore_gpu.benchmarks.harness.runs import Run

PACKAGES = ("torchvision", "kornia", "timm")


def peer_actions(batch: Tensor, labels: Tensor) -> dict[str, Callable[[], object]]:
    """Every peer, applied to the batch; the name says whether it mixes pixels ("mixup") or patches ("cutmix")."""
    from kornia.augmentation import RandomCutMixV2, RandomMixUpV2
    from timm.data.mixup import Mixup
    from torchvision.transforms import v2

    tv_mixup, tv_cutmix = v2.MixUp(num_classes=CLASSES), v2.CutMix(num_classes=CLASSES)
    actions: dict[str, Callable[[], object]] = {"torchvision cutmix": lambda: tv_cutmix(batch, labels)}
    if batch.is_floating_point():  # the others take nothing else
        actions["torchvision mixup"] = lambda: tv_mixup(batch, labels)
        kornia_mixup = RandomMixUpV2(p=1.0, data_keys=["input", "class"])
        kornia_cutmix = RandomCutMixV2(p=1.0, data_keys=["input", "class"], use_correct_lambda=True)
        actions["kornia mixup"] = lambda: kornia_mixup(batch, labels)
        actions["kornia cutmix"] = lambda: kornia_cutmix(batch, labels)
        for mode in ("batch", "elem"):
            for kind in ("mixup", "cutmix"):
                alpha = {"mixup_alpha": float(kind == "mixup"), "cutmix_alpha": float(kind == "cutmix")}
                mixer = Mixup(**alpha, mode=mode, num_classes=CLASSES)
                # The targets are made on the device of the labels, which timm takes for granted to be the batch's.
                actions[f"timm {kind} {mode} (in place)"] = partial(mixer, batch, labels)
    return actions


def our_actions(store: CounterpartStore, batch: Tensor, index: Tensor) -> dict[str, Callable[[], object]]:
    """DiffCoreMix with its defaults, pixels alone and patches alone, each out of place and in place."""
    actions: dict[str, Callable[[], object]] = {}
    for inplace in (False, True):
        for name, pixel_prob in (("default", 0.5), ("pixel", 1.0), ("patch", 0.0)):
            mix = DiffCoreMix(store, pixel_prob=pixel_prob, mean=MEAN, std=STD, inplace=inplace).to(batch.device)
            suffix = " (in place)" if inplace else ""
            actions[f"diffcore {name}{suffix}"] = partial(mix, batch, index)
    return actions


def comparisons(times: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Ours over the fastest peer: each of ours against all, pixels against mixup, patches against cutmix.

    Out of place is compared with peers that return new images as well, in place with all.

    Args:
        times: `summary` of each action, by its name.
    """
    rows = []
    for ours in (name for name in times if name.startswith("diffcore")):
        kind = {"pixel": "mixup", "patch": "cutmix"}.get(ours.split()[1])
        peers = [name for name in times if not name.startswith("diffcore")]
        groups = {"all peers": peers}
        if "(in place)" not in ours:
            groups["peers that return new images"] = [name for name in peers if "(in place)" not in name]
        if kind is not None:
            groups[f"{kind} peers"] = [name for name in peers if kind in name.split()]
        for group, names in groups.items():
            if not names:
                continue
            fastest = min(names, key=lambda name: times[name]["median_ms"])
            rows.append(
                {
                    "ours": ours,
                    "against": group,
                    "fastest": fastest,
                    "ratio": times[ours]["median_ms"] / times[fastest]["median_ms"],
                    "within_noise": within_noise(times[ours], times[fastest]),
                }
            )
    return rows


def measure_batch(
    store: CounterpartStore,
    size: int,
    *,
    batch: int,
    dtype: str,
    memory_format: str,
    device: torch.device,
    repeats: int,
) -> dict[str, Any]:
    """All actions on one batch."""
    generator = torch.Generator().manual_seed(batch)
    pristine = random_images(batch, size, dtype, memory_format, device)
    images = pristine.clone()
    labels = torch.randint(0, CLASSES, (batch,), generator=generator).to(device)
    index = torch.randperm(ROWS, generator=generator)[:batch].to(device)
    actions = our_actions(store, images, index) | peer_actions(images, labels)
    seconds = interleaved(actions, device=device, repeats=repeats, prepare=lambda: images.copy_(pristine))
    times = {name: summary(values) for name, values in seconds.items()}
    return {"size": size, "times": times, "comparisons": comparisons(times)}


def report(result: dict[str, Any]) -> str:
    """The times of one batch and the comparisons, as text."""
    rows = [
        (name, *(f"{time[key]:.3f}" for key in ("median_ms", "p10_ms", "p90_ms")))
        for name, time in sorted(result["times"].items(), key=lambda item: item[1]["median_ms"])
    ]
    compared = [
        (row["ours"], row["against"], row["fastest"], "noise" if row["within_noise"] else f"{row['ratio']:.2f}")
        for row in result["comparisons"]
    ]
    title = f"{result['batch']}×3×{result['size']}×{result['size']} {result['dtype']} {result['memory_format']}"
    return "\n\n".join(
        [
            title,
            table(("ms", "median", "p10", "p90"), rows),
            table(("ours", "against", "the fastest is", "ours / fastest"), compared),
        ]
    )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = SuiteParser("peers", __doc__)
    parser.add_device("cpu")
    parser.add_argument("--batch", type=positive, nargs="+", default=[16, 32, 64, 128], help="default: 16 32 64 128")
    parser.add_argument("--size", type=positive, default=224, help="height and width (default: %(default)s)")
    parser.add_argument("--dtype", choices=DTYPES, nargs="+", default=["float32"], help="default: float32")
    parser.add_argument("--format", choices=FORMATS, nargs="+", default=["contiguous"], help="default: contiguous")
    parser.add_argument("--repeats", type=positive, default=50, help="measured rounds (default: %(default)s)")
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads(), help="default: %(default)s")
    parser.add_resumable_json()
    return parser.parse(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write JSON if asked."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    device = device_of(options)
    run = Run("peers", options, device, ("size", "repeats", "threads"), PACKAGES)
    with tempfile.TemporaryDirectory() as folder:
        store = random_store(Path(folder) / "store", options.size)
        run.do(
            [
                {"dtype": dtype, "memory_format": memory_format, "batch": batch}
                for dtype in options.dtype
                for memory_format in options.format
                for batch in options.batch
            ],
            lambda part: measure_batch(store, options.size, **part, device=device, repeats=options.repeats),
            report,
        )
