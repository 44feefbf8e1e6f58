"""Augmentation overhead A_O of eq. 9, full training steps with every method: the paper's Table 6 on this machine.

Forward, backward and SGD of one model on one synthetic batch that lies on the device; what a method adds to the vanilla
step is its overhead. The methods take turns, step by step, so that drift hits all alike. A_O is the median over the
turns of (T_aug − T_van) / T_van, with the interval that holds it with 95 % (order statistics of the median); where it
holds 0, the difference is called noise. A method that fails, or does not fit into memory, is a row that says so.

    python benchmarks/overhead.py --device cuda --amp --json benchmarks/results/DEVICE/overhead.json
    python benchmarks/overhead.py --device cpu --model resnet18 --size 64 --batch 4 --repeats 3 --methods mixup cutmix

With --json a run that was cut off (by --budget-minutes too) goes on where it stopped, if its settings are the same.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from measure import environment, interleaved, need_gpu, summary, table, write_json
from random_data import FORMATS, MEAN, ROWS, STD, random_images, random_store
from torch import Tensor, nn

from diffcore_gpu import CounterpartStore, DiffCoreMix
from diffcore_gpu.baselines import BASELINES, Batch, cross_entropy, make_baseline

VANILLA, OURS = "vanilla", "diffcore-mix"
CLASSES = 200
PAPER = {
    "mixup": (0.9, 0.6, 0.4),
    "cutmix": (1.5, 1.0, 0.6),
    "saliencymix": (353.3, 701.8, 923.3),
    "snapmix": (67.4, 64.9, 60.2),
    "puzzlemix": (138.5, 139.9, 134.1),
    "comixup": (292.1, 490.2, 716.6),
    "guided-ap-random": (87.8, 81.9, 70.1),
    "guided-ap-greedy": (89.2, 83.0, 77.5),
    OURS: (68.2, 59.3, 58.9),
}
"""Table 6 of the paper: overhead in percent at batch 16, 32 and 64, CUB with ResNet-50."""
PACKAGES = ("torchvision", "timm", "kornia", "opencv-contrib-python-headless", "gco-wrapper")

Step = Callable[[], object]


def make_model(name: str, device: torch.device, memory_format: str) -> nn.Module:
    """A model of torchvision or timm by its name, with random weights, in training mode."""
    import timm
    import torchvision

    if name in torchvision.models.list_models():
        model: nn.Module = torchvision.models.get_model(name, num_classes=CLASSES)
    elif timm.is_model(name):
        model = timm.create_model(name, num_classes=CLASSES)
    else:
        import difflib

        known = [*torchvision.models.list_models(), *timm.list_models()]
        close = ", ".join(difflib.get_close_matches(name, known, n=3)) or "see torchvision and timm"
        raise SystemExit(f"There is no model {name!r}; did you mean {close}?")
    return model.to(device, memory_format=FORMATS[memory_format]).train()


def steps(
    options: argparse.Namespace, store: CounterpartStore, batch_size: int, device: torch.device
) -> tuple[dict[str, Step], dict[str, str]]:
    """A training step for each method, and for those that failed when they were tried, why."""
    images = random_images(batch_size, options.size, "uint8", "contiguous", device).float() / 255
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (MEAN, STD))
    images = ((images - mean) / std).contiguous(memory_format=FORMATS[options.format])
    index = torch.arange(batch_size, device=device) % ROWS
    batch = Batch(images, index % CLASSES, index)
    model = make_model(options.model, device, options.format)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    scaled = torch.autocast(device.type, dtype=torch.bfloat16, enabled=options.amp)

    def finish(loss: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def with_labels(mix: Callable[[Tensor, Tensor], Tensor]) -> Step:
        def step() -> None:
            mixed = mix(batch.images, batch.index)
            with scaled:
                loss = nn.functional.cross_entropy(model(mixed), batch.labels)
            finish(loss)

        return step

    def with_baseline(name: str) -> Step:
        method = make_baseline(name, CLASSES, mean=MEAN, std=STD, store=store)

        def step() -> None:
            with scaled:
                mixed = method(batch, model)
                with mixed.during_forward:
                    logits = model(mixed.images)
                loss = cross_entropy(logits, mixed.targets)
            finish(loss)

        return step

    made: dict[str, Step] = {VANILLA: with_labels(lambda images, _: images)}
    failed: dict[str, str] = {}
    for name in options.methods:
        try:
            if name == OURS:
                made[name] = with_labels(DiffCoreMix(store, mean=MEAN, std=STD).to(device))
            else:
                made[name] = with_baseline(name)
            made[name]()
        except (torch.OutOfMemoryError, ValueError, RuntimeError, ImportError) as error:
            failed[name] = (str(error).strip().splitlines() or [type(error).__name__])[0]
            made.pop(name, None)
    return made, failed


def overhead(augmented: Sequence[float], vanilla: Sequence[float]) -> dict[str, float]:
    """A_O of paired steps in percent: its median, and the interval that holds the median with 95 %.

    Args:
        augmented: seconds of the method's steps.
        vanilla: seconds of the vanilla steps of the same turns.
    """
    values = sorted(100 * (a - v) / v for a, v in zip(augmented, vanilla, strict=True))
    n = len(values)
    # The k-th smallest and largest hold the median unless fewer than k values fall on one side of it.
    k, below = 0, 0.0
    while k < n // 2 and below + math.comb(n, k) / 2**n <= 0.025:
        below += math.comb(n, k) / 2**n
        k += 1
    k = max(k - 1, 0)
    return {"percent": statistics.median(values), "low": values[k], "high": values[n - 1 - k]}


def measure(
    options: argparse.Namespace, store: CounterpartStore, batch_size: int, device: torch.device
) -> dict[str, Any]:
    """Every method at one batch size."""
    made, failed = steps(options, store, batch_size, device)
    seconds = interleaved(made, device=device, repeats=options.repeats, warmup=options.warmup)
    return {
        "batch": batch_size,
        "times": {name: summary(values) for name, values in seconds.items()},
        "overheads": {name: overhead(values, seconds[VANILLA]) for name, values in seconds.items() if name != VANILLA},
        "failed": failed,
    }


def report(result: Mapping[str, Any]) -> str:
    """The table of one batch size, with the paper's column where it has one."""
    column = {16: 0, 32: 1, 64: 2}.get(result["batch"])
    vanilla = result["times"][VANILLA]["median_ms"]
    rows = [(VANILLA, f"{vanilla:.2f}", "", "", "")]
    for name, found in result["overheads"].items():
        noise = " (noise)" if found["low"] <= 0 <= found["high"] else ""
        paper = f"{PAPER[name][column]:+.1f}" if name in PAPER and column is not None else ""
        rows.append(
            (
                name,
                f"{result['times'][name]['median_ms']:.2f}",
                f"{found['percent']:+.1f}{noise}",
                f"{found['low']:+.1f} … {found['high']:+.1f}",
                paper,
            )
        )
    text = table((f"batch {result['batch']}", "step, ms", "A_O, %", "95 %", "paper, %"), rows)
    return "\n".join([text, *(f"{name} failed: {why}" for name, why in result["failed"].items())])


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda", help="default: %(default)s")
    parser.add_argument("--model", default="resnet50", help="of torchvision or timm (default: %(default)s)")
    parser.add_argument("--methods", nargs="+", choices=(OURS, *BASELINES), default=[OURS, *BASELINES], metavar="NAME")
    parser.add_argument("--batch", type=int, nargs="+", default=[16, 32, 64], help="default: 16 32 64")
    parser.add_argument("--size", type=int, default=224, help="height and width (default: %(default)s)")
    parser.add_argument("--format", choices=FORMATS, default="contiguous", help="default: %(default)s")
    parser.add_argument("--amp", action="store_true", help="autocast to bfloat16")
    parser.add_argument("--repeats", type=int, default=30, help="measured turns (default: %(default)s)")
    parser.add_argument("--warmup", type=int, default=3, help="turns before (default: %(default)s)")
    parser.add_argument("--budget-minutes", type=float, default=None, help="begin no other batch size after this time")
    parser.add_argument("--json", type=Path, default=None, help="also write figures and samples here")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure what is not in the JSON file yet; the result is written after each batch size."""
    device = need_gpu("overhead.py --device cuda") if options.device == "cuda" else torch.device("cpu")
    began = time.monotonic()
    names = ("model", "methods", "size", "format", "amp", "repeats")
    setting = {name: getattr(options, name) for name in names}
    result: dict[str, Any] = {"environment": environment(device, PACKAGES), "setting": setting, "results": []}
    if options.json is not None and options.json.exists():
        before = json.loads(options.json.read_text())
        if before.get("setting") == json.loads(json.dumps(setting)):
            result = before
    done = {found["batch"] for found in result["results"]}
    with tempfile.TemporaryDirectory() as folder:
        store = random_store(Path(folder) / "store", options.size)
        for batch_size in options.batch:
            spent = (time.monotonic() - began) / 60
            if batch_size in done:
                continue
            if options.budget_minutes is not None and spent > options.budget_minutes:
                print(f"Batch {batch_size} was not begun: {spent:.1f} minutes are spent; run the same command again.")
                break
            result["results"].append(measure(options, store, batch_size, device))
            print(report(result["results"][-1]), end="\n\n", flush=True)
            if options.json is not None:
                write_json(options.json, result)
    return result


if __name__ == "__main__":
    run(parse())
