"""How the suites `overhead` and `batch-time` run: their options, the order of the parts, and one part by turns.

A part is one block of methods at one batch size. The first block, "peers", is the vanilla steps twice, this library's
method and those that also mix within a batch in one cheap pass; the second, "others", is all other methods, again with
vanilla steps twice. The first block is measured at every batch size before the second begins: a run that is cut off has
what matters most, a method that fails, hangs or exhausts the memory in its warm-up cannot take that away, and turns
of few, quick methods follow each other closely, so that a method and the vanilla steps that it is compared with meet
the same machine. Every comparison is within a block, turn by turn.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from diffcore_gpu import DiffCoreMix
from diffcore_gpu.baselines import BASELINES
from diffcore_gpu.benchmarks.harness.options import SuiteParser, device_of, one_of, positive
from diffcore_gpu.benchmarks.harness.random_data import FORMATS
from diffcore_gpu.benchmarks.harness.runs import Part, Run
from diffcore_gpu.benchmarks.paper import AGAIN, OURS, VANILLA
from diffcore_gpu.benchmarks.steps.batches import Feed, Input, add_input_options, make_feed, make_input, make_ours
from diffcore_gpu.benchmarks.steps.turns import Trainee, Turns, by_turns, figures, turns_of
from diffcore_gpu.benchmarks.training.models import check_model, make_model
from diffcore_gpu.benchmarks.training.step import FAILURES, Trainer, make_mix, mix_of
from diffcore_gpu.errors import BenchmarkError

PACKAGES = ("torchvision", "timm", "kornia", "opencv-contrib-python-headless", "gco-wrapper")
SETTING = (
    "model", "methods", "size", "format", "amp", "repeats", "warmup", "steps", "data", "store", "workers", "residency",
)  # fmt: skip
PEERS = (OURS, "mixup", "cutmix")
"""The methods of the block "peers"."""


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


def run_steps(suite: str, options: argparse.Namespace, report: Callable[[Mapping[str, Any]], str]) -> None:
    """Measure what is not in the JSON file yet; it is written after each turn.

    Args:
        suite: its name.
        options: of `add_step_options`.
        report: the text about a whole result, printed after each part.

    Raises:
        BenchmarkError: of `check_step_options`, `make_input` and `Run`.
    """
    check_step_options(options)
    device = device_of(options)
    run = Run(suite, options, device, step_setting(options), PACKAGES)
    with tempfile.TemporaryDirectory() as folder:
        made = make_input(options, Path(folder))
        run.do(
            parts(options.methods, options.batch),
            lambda part: measure_steps(run, options, made, part, device),
            lambda _: report(run.result),
        )


def step_setting(options: argparse.Namespace) -> dict[str, Any]:
    """What the samples depend on; folders by their names alone."""
    setting = {name: getattr(options, name) for name in SETTING}
    return {**setting, **{name: None if setting[name] is None else setting[name].name for name in ("data", "store")}}


def blocks(methods: Sequence[str]) -> dict[str, list[str]]:
    """What takes turns together, by the block's name; a block without a method is left out."""
    found = {
        "peers": [name for name in methods if name in PEERS],
        "others": [name for name in methods if name not in PEERS],
    }
    return {block: [VANILLA, AGAIN, *names] for block, names in found.items() if names}


def parts(methods: Sequence[str], batch_sizes: Sequence[int]) -> list[Part]:
    """The parts of a run in their order."""
    return [{"batch": batch, "block": block} for block in blocks(methods) for batch in batch_sizes]


def measure_steps(
    run: Run, options: argparse.Namespace, made: Input, part: Part, device: torch.device
) -> dict[str, Any] | None:
    """Times of all steps of a part, and why some methods failed; every turn is kept in the run's file.

    Args:
        run: that may hold earlier turns of the part, which are not repeated.
        options: of `add_step_options`.
        made: what is trained on.
        part: of `parts`.
        device: that trains.

    Returns:
        The figures; None: the budget was spent before the last turn.
    """
    torch.backends.cudnn.benchmark = True  # as a loop with batches of one size is run on a GPU
    turns = turns_of(run.kept(part))
    names = blocks(options.methods)[part["block"]]
    ours, prefetch = None, False
    if OURS in names:
        try:
            ours, prefetch = make_ours(made, options.residency, device)
        except FAILURES as error:
            turns.fail(OURS, error)
    where = {} if ours is None else {"residency": ours.residency}
    feed = make_feed(made, options, part["batch"], device, prefetch=prefetch)
    try:
        model = make_model(options.model, made.num_classes).to(device).to(memory_format=FORMATS[options.format])
        trainer = Trainer(model.train(), device, amp=options.amp)
        trainees = _trainees(names, turns, made, feed, ours)
        how = {name: getattr(options, name) for name in ("repeats", "warmup", "steps")}
        for _ in by_turns(trainer, trainees, turns, **how):
            if turns.count < options.repeats:
                run.keep(part, {**where, **figures(turns, loader=feed.waits)})
                if run.spent:
                    return None
    finally:
        feed.close()
    return {**where, **figures(turns, loader=feed.waits)}


def _trainees(
    names: Sequence[str], turns: Turns, made: Input, feed: Feed, ours: DiffCoreMix | None
) -> dict[str, Trainee]:
    """The methods that can be made; the others have failed."""
    found: dict[str, Trainee] = {}
    for name in names:
        if name == OURS:
            if ours is not None:
                found[name] = Trainee(mix_of(ours), feed.batches(ours))
            continue
        try:
            found[name] = Trainee(make_mix(name, made.num_classes, made.store), feed.batches())
        except FAILURES as error:
            turns.fail(name, error)
    return found
