"""Accuracy runs by recipes: any method, model and coverage, over seeds, with the paper's numbers beside.

RECIPE is one of the package's, one for each table of the paper (``--list`` shows them), or the path of a TOML file of
your own; the top of `diffcore_gpu/benchmarks/training/recipe.py` tells its fields. ``--data`` holds ``train/``
and the folders that the recipe evaluates on (``val/``, ``test/``), each with one folder of images for each class.
``--store`` holds the counterparts of ``train/`` at the training size; arms without counterparts run without it.
Everything is checked before anything is trained. Try a recipe with two steps first:

    diffcore bench train table7 --data cars --store stores/cars --epochs 1 --steps 2 --seeds 0 --out try
    diffcore bench train table7 --data cars --store stores/cars --amp bf16 --channels-last --json table7.json

Each run leaves a checkpoint after every epoch. Runs that were cut off go on when the same command is given again, and
end as if they had never been cut; --seeds and --arms may be added later. The accuracy that counts is that of the last
epoch: to take the best epoch on a test set would be to choose by it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from diffcore_gpu.benchmarks.harness.options import SuiteParser, device_of, not_negative, positive
from diffcore_gpu.benchmarks.harness.runs import Part, Run
from diffcore_gpu.benchmarks.training.accuracies import Clock, accuracy_table, epoch_line, run_line
from diffcore_gpu.benchmarks.training.arms import Prepared
from diffcore_gpu.benchmarks.training.checkpoint import Checkpoint
from diffcore_gpu.benchmarks.training.data import Data, open_data
from diffcore_gpu.benchmarks.training.loading import EpochBatches, plain
from diffcore_gpu.benchmarks.training.loop import AMP, Epoch, Execution, train
from diffcore_gpu.benchmarks.training.preparation import check_trained, prepare_arms
from diffcore_gpu.benchmarks.training.recipe import (
    AUGMENTATIONS,
    TRAINING_FIELDS,
    Training,
    Variant,
    listing,
    load_recipe,
    overridden,
)
from diffcore_gpu.benchmarks.training.step import FAILURES
from diffcore_gpu.errors import BenchmarkError, clause

PACKAGES = ("torchvision", "timm")
_OVERRIDES = (
    *("model", "pretrained", "size", "augmentation", "epochs", "batch", "lr", "weight_decay", "images_per_class"),
    *("splits", "seeds", "evaluate_every"),
)
"""Fields of `Training` that have an option of their own."""
_NO_SETTING = ("seeds", "evaluate_every")
"""Fields of `Training` that a run may change when it goes on."""


class _List(argparse.Action):
    """Show the package's recipes and stop, as ``--help`` does."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(listing())
        parser.exit()


def _field(name: str, kind: Callable[[str], Any] = str, *, entry: bool = False) -> Callable[[str], Any]:
    """A type for `add_argument`: what the recipe's field of that name takes, or one entry of it where it is a list."""

    def convert(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a {'whole ' if kind is int else ''}number.") from None
        try:
            read = TRAINING_FIELDS[name]([value] if entry else value, "it")
        except BenchmarkError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return read[0] if entry else read

    return convert


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1.")
    return value


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = SuiteParser("train", __doc__)
    add = parser.add_argument
    add("recipe", metavar="RECIPE", help="name of a recipe, or path of a TOML file")
    add("--list", action=_List, nargs=0, help="show the package's recipes with their variants, and stop")
    add("--data", type=Path, required=True, help="folder with train/ and what the recipe evaluates on")
    add("--store", type=Path, default=None, help="counterparts of train/, at the training size")
    add("--variant", default=None, help="of the recipe; needed where it has several")
    add("--arms", nargs="+", default=None, metavar="ARM", help="only these; the first is what others are compared with")
    add("--out", type=Path, default=None, help="folder of checkpoints (default: beside --json, else train-runs)")
    for_recipe = parser.add_argument_group("in place of what the recipe says")
    add = for_recipe.add_argument
    add("--model", type=_field("model"), help="of torchvision, timm, or preact_resnet18 and 34")
    add("--pretrained", action=argparse.BooleanOptionalAction, default=None, help="begin with ImageNet weights")
    add("--size", type=_field("size", int), help="height and width of the images")
    add("--augmentation", choices=AUGMENTATIONS, default=None)
    add("--epochs", type=_field("epochs", int), help="the steps of the learning rate move in proportion")
    add("--batch", type=_field("batch", int))
    add("--lr", type=_field("lr", float), help="learning rate at the beginning")
    add("--weight-decay", type=_field("weight_decay", float))
    add("--images-per-class", type=_field("images_per_class", int), metavar="N", help="train on N of each class")
    add("--splits", nargs="+", type=_field("splits", entry=True), metavar="SPLIT", help="folders to evaluate on")
    add("--seeds", nargs="+", type=_field("seeds", int, entry=True), metavar="SEED", help="one run for each")
    add("--evaluate-every", type=_field("evaluate_every", int), metavar="N", help="epochs; the last one always is")
    execution = parser.add_argument_group("execution")
    add = execution.add_argument
    add("--workers", type=not_negative, default=4, help="of the loader (default: %(default)s)")
    add("--amp", choices=tuple(AMP), default="off", help="mixed precision (default: %(default)s)")
    add("--channels-last", action="store_true", help="memory format of model and images")
    add("--steps", type=positive, default=None, metavar="N", help="at most N steps of an epoch, to try a recipe")
    add(
        "--allow-missing",
        type=_share,
        default=0.0,
        metavar="SHARE",
        help="train although this share of the samples lacks the counterparts of its arm (default: 0)",
    )
    add("--retry-failed", action="store_true", help="run again what failed before")
    parser.add_device("cuda")
    parser.add_resumable_json()
    return parser.parse(arguments)


def _training(options: argparse.Namespace, variant: Variant) -> Training:
    given = {name: getattr(options, name) for name in _OVERRIDES if getattr(options, name) is not None}
    for name in ("splits", "seeds"):
        if name in given:
            given[name] = tuple(dict.fromkeys(given[name]))
    return overridden(variant.training, given)


def _check_done(run: Run, prepared: Sequence[Prepared], path: Path | None) -> None:
    """Refuse to add to results of an arm that was another one.

    Raises:
        BenchmarkError: naming the arm.
    """
    for ready in prepared:
        for done in run.result["results"]:
            if done["arm"] == ready.arm.name and done["definition"] != ready.definition():
                raise BenchmarkError(
                    f"{path}: holds results of an arm {ready.arm.name} with other settings or another store; write to "
                    "another file."
                )


class _Runs:
    """All runs of a command, each by its part of the result."""

    def __init__(
        self,
        training: Training,
        data: Data,
        prepared: Sequence[Prepared],
        execution: Execution,
        work: Path,
        setting: Mapping[str, Any],
        parts: Sequence[Part],
    ) -> None:
        self._training, self._data, self._execution = training, data, execution
        self._prepared = {ready.arm.name: ready for ready in prepared}
        self._work, self._setting, self._parts = work, setting, list(parts)

    def checkpoint(self, part: Part) -> Checkpoint:
        """Of one run."""
        identity = {**self._setting, "definition": self._prepared[part["arm"]].definition(), "seed": part["seed"]}
        return Checkpoint(self._work / part["arm"] / f"seed-{part['seed']}", identity)

    def measure(self, part: Part) -> dict[str, Any] | None:
        """Train one; None: it stopped between two epochs."""
        ready = self._prepared[part["arm"]]
        name = f"[{self._parts.index(part) + 1} of {len(self._parts)}] {part['arm']}, seed {part['seed']}"
        clock = Clock()

        def tell(epoch: Epoch) -> None:
            print(epoch_line(name, epoch, clock.left(epoch)), file=sys.stderr, flush=True)

        try:
            figures = train(
                self._training, self._data, ready, part["seed"], self._execution, self.checkpoint(part), tell
            )
        except BenchmarkError as error:
            raise plain(error) from error
        except FAILURES as error:
            figures = {"failed": clause(error)}
        if self._execution.device.type == "cuda":
            torch.cuda.empty_cache()
        return None if figures is None else {"definition": ready.definition(), **figures}


def main(arguments: Sequence[str] | None = None) -> None:
    """Check, train, print, and write JSON if asked."""
    options = parse(arguments)
    recipe = load_recipe(options.recipe)
    variant, arms = recipe.variant(options.variant), recipe.choose_arms(options.arms)
    training, device = _training(options, variant), device_of(options)
    data = open_data(options.data, training.splits, training.images_per_class)
    fields = {name: value for name, value in asdict(training).items() if name not in _NO_SETTING}
    setting = {
        "recipe": recipe.name,
        "variant": variant.name,
        **fields,
        **{name: getattr(options, name) for name in ("amp", "channels_last", "steps")},
        "data": data.identity(),
    }
    run = Run("train", options, device, setting, PACKAGES, timed=False)
    check_trained(training, len(data.class_names))
    beside = Path("train-runs") if options.json is None else options.json.with_name(f"{options.json.stem}-runs")
    work = (options.out or beside) / f"{recipe.name}-{variant.name}"
    prepared = prepare_arms(arms, data, training.size, options.store, work, options.allow_missing)
    _check_done(run, prepared, options.json)
    if options.retry_failed:
        run.result["results"] = [done for done in run.result["results"] if "failed" not in done]
    parts = [{"variant": variant.name, "arm": arm.name, "seed": seed} for seed in training.seeds for arm in arms]
    execution = Execution(device, options.workers, options.amp, options.channels_last, options.steps, lambda: run.spent)
    runs = _Runs(training, data, prepared, execution, work, setting, parts)
    for part in parts:
        runs.checkpoint(part).check()
    run.result["paper"] = {arm: dict(splits) for arm, splits in variant.paper.items()}
    steps = len(EpochBatches(data.part, training.batch, 0, options.steps))
    print(
        f"{variant.title}: {len(arms)} arms × {len(training.seeds)} seeds, {training.epochs} epochs of {steps} steps; "
        f"checkpoints in {work}",
        file=sys.stderr,
        flush=True,
    )
    with _fastest(device):
        run.do(parts, runs.measure, run_line)
    names = [arm.name for arm in arms]
    for split in training.splits:
        print(accuracy_table(run.result["results"], names, split, variant.paper), end="\n\n")
    for failed in (done for done in run.result["results"] if "failed" in done):
        print(run_line(failed))
    print("Accuracy after the last epoch in percent, mean ± sample standard deviation over the seeds.")


@contextmanager
def _fastest(device: torch.device) -> Iterator[None]:
    """Let cuDNN choose its fastest algorithms; the shapes are the same in every step."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or device.type == "cuda"
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
