"""Augmentation overhead A_O of eq. 9, full training steps with every method: the paper's Table 6 on this machine.

Fetching a batch, mixing, forward, backward and SGD of one model; what a method adds to the vanilla step is its
overhead. The methods take turns, so that drift hits all alike. A_O is the median over the turns of
(T_aug − T_van) / T_van, with an interval of order statistics so wide that all intervals of the table hold their medians
together with 95 %; where it holds 0, the difference is called noise. Beside it stands the method's own stage in percent
of its step. A method that fails, or does not fit into memory, is a row that says so.

    diffcore bench overhead --amp --json benchmarks/results/DEVICE/overhead.json
    diffcore bench overhead --device cpu --model resnet18 --size 64 --batch 4 --repeats 3 --methods mixup cutmix
    diffcore bench overhead --data birds --store stores/birds --size 224

Without --data the batch is random and lies on the device. With it, batches come from the images through a loader, and
the share of the step in which the loop waits for the loader is told too.

With --json a run that was cut off (by --budget-minutes too) goes on where it stopped.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from diffcore_gpu.baselines import BASELINES
from diffcore_gpu.benchmarks import paper
from diffcore_gpu.benchmarks.arguments import SuiteParser, device_of, one_of, positive
from diffcore_gpu.benchmarks.errors import BenchmarkError
from diffcore_gpu.benchmarks.measure import table
from diffcore_gpu.benchmarks.models import check_model, make_model
from diffcore_gpu.benchmarks.paper import OURS, VANILLA
from diffcore_gpu.benchmarks.random_data import FORMATS
from diffcore_gpu.benchmarks.reporting.step_notes import overhead_notes
from diffcore_gpu.benchmarks.reporting.step_tables import OWN, WAITED, share_cell
from diffcore_gpu.benchmarks.reporting.tables import NOISE
from diffcore_gpu.benchmarks.runs import Run
from diffcore_gpu.benchmarks.step_input import FolderBatches, Input, add_input_options, make_batches, make_input
from diffcore_gpu.benchmarks.step_results import AtBatch, at_batches
from diffcore_gpu.benchmarks.training_steps import FAILURES, Mix, Trainer, by_turns, figures, make_mix, why

PACKAGES = ("torchvision", "timm", "kornia", "opencv-contrib-python-headless", "gco-wrapper")
SETTING = ("model", "methods", "size", "format", "amp", "repeats", "warmup", "steps", "data", "store", "workers")


def measure_steps(options: argparse.Namespace, made: Input, batch_size: int, device: torch.device) -> dict[str, Any]:
    """Times of vanilla steps and of those with every method at one batch size, and why some failed."""
    torch.backends.cudnn.benchmark = True  # as a loop with batches of one size is run on a GPU
    batches = make_batches(made, options, batch_size, device)
    try:
        model = make_model(options.model, made.num_classes).to(device).to(memory_format=FORMATS[options.format])
        mixes: dict[str, Mix] = {}
        failed: dict[str, str] = {}
        for name in (VANILLA, *options.methods):
            try:
                mixes[name] = make_mix(name, made.num_classes, made.store, device)
            except FAILURES as error:
                failed[name] = why(error)
        rows, failed_later = by_turns(
            Trainer(model.train(), device, amp=options.amp),
            batches,
            mixes,
            repeats=options.repeats,
            warmup=options.warmup,
            steps=options.steps,
        )
    finally:
        if isinstance(batches, FolderBatches):
            batches.close()
    return {**figures(rows, real_input=made.dataset is not None), "failed": {**failed, **failed_later}}


def report(result: Mapping[str, Any]) -> str:
    """A table for each batch size of a result, and how sure its figures are."""
    found = at_batches(result["results"])
    return "\n\n".join([*map(_table, found), "\n".join(overhead_notes(result, found))])


def _table(at: AtBatch) -> str:
    """The arms at one batch size, with the paper's column where it has one."""
    rows = []
    loader = any(arm.loader_share is not None for arm in at.arms.values())
    for name, arm in at.arms.items():
        one = arm.overhead
        theirs = paper.at_batch(paper.OVERHEAD, name, at.batch)
        rows.append(
            (
                name,
                f"{arm.time['median_ms']:.2f}",
                "" if one is None else f"{one.percent:+.1f}{NOISE if one.noise else ''}",
                "" if one is None else f"{one.low:+.1f} … {one.high:+.1f}",
                f"{arm.own_percent:.2f}",
                "" if theirs is None else f"{theirs:+.1f}",
                *([share_cell(arm.loader_share)] if loader else []),
            )
        )
    header = (f"batch {at.batch}", "step, ms", "A_O, %", "interval", OWN, "paper, %")
    text = table((*header, *([WAITED] if loader else [])), rows)
    return "\n".join([text, *(f"{name} failed: {reason}" for name, reason in at.failed.items())])


def add_step_options(parser: SuiteParser, methods: Sequence[str]) -> None:
    """The options of the suites that measure training steps."""
    known = one_of("method", (OURS, *BASELINES))
    parser.add_device("cuda")
    parser.add_argument("--model", default="resnet50", help="of torchvision or timm (default: %(default)s)")
    parser.add_argument(
        "--methods", type=known, nargs="+", default=list(methods), metavar="NAME", help=f"default: {' '.join(methods)}"
    )
    parser.add_argument("--batch", type=positive, nargs="+", default=[16, 32, 64], help="default: 16 32 64")
    parser.add_argument("--size", type=positive, default=224, help="height and width (default: %(default)s)")
    parser.add_argument("--format", choices=FORMATS, default="contiguous", help="default: %(default)s")
    parser.add_argument("--amp", action="store_true", help="autocast to bfloat16")
    parser.add_argument("--repeats", type=positive, default=30, help="measured turns (default: %(default)s)")
    parser.add_argument("--warmup", type=positive, default=2, help="turns before them (default: %(default)s)")
    parser.add_argument("--steps", type=positive, default=3, help="steps of a turn (default: %(default)s)")
    add_input_options(parser)
    parser.add_resumable_json()


def check_step_options(options: argparse.Namespace) -> None:
    """Refuse what cannot be measured before anything is prepared.

    Raises:
        BenchmarkError: fewer than two turns; no such model, or one that does not take such images.
    """
    if options.repeats < 2:
        raise BenchmarkError("--repeats must be 2 or more, so that there is a spread.")
    check_model(make_model(options.model, 2), options.model, 2, options.size)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is not in the JSON file yet; the result is written after each batch size."""
    parser = SuiteParser("overhead", __doc__)
    add_step_options(parser, [OURS, *BASELINES])
    options = parser.parse(arguments)
    check_step_options(options)
    device = device_of(options)
    run = Run("overhead", options, device, step_setting(options), PACKAGES)
    with tempfile.TemporaryDirectory() as folder:
        made = make_input(options, Path(folder))
        run.do(
            [{"batch": batch} for batch in options.batch],
            lambda part: measure_steps(options, made, part["batch"], device),
            lambda _: report(run.result),
        )


def step_setting(options: argparse.Namespace) -> dict[str, Any]:
    """What the samples depend on; folders by their names alone."""
    setting = {name: getattr(options, name) for name in SETTING}
    return {**setting, **{name: None if setting[name] is None else setting[name].name for name in ("data", "store")}}
