"""How the suites `overhead` and `batch-time` run: their options, the order of the parts, and one part by turns.

A part is one block of methods at one batch size. The first block, "peers", is the vanilla steps twice, this library's
method and those that also mix within a batch in one cheap pass; the second, "others", is all other methods, again with
vanilla steps twice. The first block is measured at every batch size before the second begins: a run that is cut off has
what matters most, a method that fails, hangs or exhausts the memory in its warm-up cannot take that away, and turns
of few, quick methods follow each other closely, so that a method and the vanilla steps that it is compared with meet
the same machine. Every comparison is within a block, turn by turn.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from diffcore_gpu import DiffCoreMix
from diffcore_gpu.benchmarks.harness import options
from diffcore_gpu.benchmarks.harness.command import output_of
from diffcore_gpu.benchmarks.harness.random_data import FORMATS
from diffcore_gpu.benchmarks.harness.runs import Part, Run
from diffcore_gpu.benchmarks.paper import AGAIN, OURS, VANILLA
from diffcore_gpu.benchmarks.steps.batches import Feed, Input, make_feed, make_input, make_ours
from diffcore_gpu.benchmarks.steps.turns import Trainee, Turns, by_turns, figures, turns_of
from diffcore_gpu.benchmarks.training.models import check_model, make_model
from diffcore_gpu.benchmarks.training.step import FAILURES, Trainer, make_mix, mix_of
from diffcore_gpu.store.residency import RESIDENCIES

PACKAGES = ("torchvision", "timm", "kornia", "opencv-contrib-python-headless", "gco-wrapper")
PEERS = (OURS, "mixup", "cutmix")
"""The methods of the block "peers"."""


BATCH_SIZES = [16, 32, 64]
Residency = Annotated[
    str,
    options.choice(
        "--residency",
        "Where diffcore-mix finds its counterparts: in the device's memory, or in the host's or on disk, with a "
        "PrefetchLoader for all methods; auto: in a GPU's memory if they fit, on the CPU mapped from disk. One of them",
        "residency",
        RESIDENCIES,
    ),
]


_SETTING_NAMES = {"real": "data", "memory_format": "format"}


@dataclass(frozen=True)
class StepOptions:
    """What the samples of a run depend on, as its options name it."""

    model: str
    methods: list[str]
    size: int
    memory_format: str
    amp: bool
    repeats: int
    warmup: int
    steps: int
    real: Path | None
    store: Path | None
    workers: int
    residency: Any

    def setting(self) -> dict[str, Any]:
        """For the result, as its format names them; folders by their names alone."""
        setting = {_SETTING_NAMES.get(name, name): value for name, value in asdict(self).items()}
        return {name: value.name if isinstance(value, Path) else value for name, value in setting.items()}


def step_suite(suite: str, methods: list[str], report: Callable[[Mapping[str, Any]], str]) -> Callable[..., None]:
    """The suite that measures training steps, as a command.

    Args:
        suite: its name.
        methods: that are measured unless others are asked for.
        report: the text about a whole result, printed after each part.
    """

    def main(
        context: typer.Context,
        device: options.Device = "cuda",
        model: options.Model = "resnet50",
        methods: options.Methods = methods,
        batch: options.BatchSizes = BATCH_SIZES,
        size: options.Size = 224,
        memory_format: options.Format = "contiguous",
        amp: Annotated[bool, options.flag("--amp", "Autocast to bfloat16.")] = False,
        repeats: options.Spread = 30,
        warmup: Annotated[int, options.number("--warmup", "Turns before the measured ones.")] = 2,
        steps: Annotated[int, options.number("--steps", "Steps of a turn.")] = 3,
        real: options.Real = None,
        store: options.Store = None,
        workers: Annotated[int, options.number("--workers", "Of the loader with --real.", options.not_negative)] = 2,
        residency: Residency = "auto",
        json: options.ResumableJson = None,
        budget_minutes: options.BudgetMinutes = None,
    ) -> None:
        how = StepOptions(
            model, methods, size, memory_format, amp, repeats, warmup, steps, real, store, workers, residency
        )
        check_model(make_model(model, 2), model, 2, size)
        where = options.device_of(device)
        run = Run(suite, output_of(context, json, budget_minutes), where, how.setting(), PACKAGES)
        with tempfile.TemporaryDirectory() as folder:
            made = make_input(real, store, size, Path(folder))
            run.do(
                parts(methods, batch), lambda part: measure_steps(run, how, made, part), lambda _: report(run.result)
            )

    return main


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


def measure_steps(run: Run, how: StepOptions, made: Input, part: Part) -> dict[str, Any] | None:
    """Times of all steps of a part, and why some methods failed; every turn is kept in the run's file.

    Args:
        run: that may hold earlier turns of the part, which are not repeated.
        how: it is trained.
        made: what is trained on.
        part: of `parts`.

    Returns:
        The figures; None: the budget was spent before the last turn.
    """
    device = run.device
    torch.backends.cudnn.benchmark = True  # as a loop with batches of one size is run on a GPU
    with run.reading():
        turns = turns_of(run.kept(part))
    names = blocks(how.methods)[part["block"]]
    ours, prefetch = None, False
    if OURS in names:
        try:
            ours, prefetch = make_ours(made, how.residency, device)
        except FAILURES as error:
            turns.fail(OURS, error)
    where = {} if ours is None else {"residency": ours.residency}
    feed = make_feed(
        made,
        part["batch"],
        device,
        size=how.size,
        memory_format=how.memory_format,
        workers=how.workers,
        prefetch=prefetch,
    )
    try:
        model = make_model(how.model, made.num_classes).to(device).to(memory_format=FORMATS[how.memory_format])
        trainer = Trainer(model.train(), device, amp=how.amp)
        trainees = _trainees(names, turns, made, feed, ours)
        rounds = {name: getattr(how, name) for name in ("repeats", "warmup", "steps")}
        for _ in by_turns(trainer, trainees, turns, **rounds):
            if turns.count < how.repeats:
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
