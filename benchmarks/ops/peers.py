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

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import typer
from torch import Tensor

from diffcore_gpu import CounterpartStore, DiffCoreMix
from diffcore_gpu.benchmarks.harness import options
from diffcore_gpu.benchmarks.harness.command import output_of
from diffcore_gpu.benchmarks.harness.measure import table, within_noise
from diffcore_gpu.benchmarks.harness.random_data import CLASSES, MEAN, STD
from diffcore_gpu.benchmarks.harness.runs import Run
from diffcore_gpu.benchmarks.ops.registry import PEERS
from diffcore_gpu.benchmarks.ops.runner import Case, run_op
from diffcore_gpu.benchmarks.reporting.tables import shape_of


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


def measure(case: Case) -> dict[str, Any]:
    """All actions on one batch."""
    generator = torch.Generator().manual_seed(case.batch)
    pristine = case.images()
    images = pristine.clone()
    labels = torch.randint(0, CLASSES, (case.batch,), generator=generator).to(case.device)
    index = torch.randperm(case.store.num_samples, generator=generator)[: case.batch].to(case.device)
    actions = our_actions(case.store, images, index) | peer_actions(images, labels)
    times = case.times(actions, prepare=lambda: images.copy_(pristine))
    return {"size": case.size, "times": times, "comparisons": comparisons(times)}


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
    return "\n\n".join(
        [
            shape_of(result),
            table(("ms", "median", "p10", "p90"), rows),
            table(("ours", "against", "the fastest is", "ours / fastest"), compared),
        ]
    )


def main(
    context: typer.Context,
    device: options.Device = PEERS.device,
    batch: options.BatchSizes = PEERS.batch,
    size: options.Size = PEERS.size[0],
    dtype: options.Dtypes = PEERS.dtype,
    memory_format: options.Formats = PEERS.memory_format,
    repeats: options.Repeats = PEERS.repeats,
    threads: options.Threads = None,
    json: options.ResumableJson = None,
    budget_minutes: options.BudgetMinutes = None,
) -> None:
    """Measure, print, and write JSON if asked."""
    setting = {"size": size, "repeats": repeats, "threads": options.use_threads(threads)}
    run = Run("peers", output_of(context, json, budget_minutes), options.device_of(device), setting, PEERS.packages)
    op = replace(PEERS, batch=batch, size=[size], dtype=dtype, memory_format=memory_format, repeats=repeats)
    run_op(run, op, measure, report)
