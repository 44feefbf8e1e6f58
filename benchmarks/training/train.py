"""Accuracy runs by recipes: any method, model and coverage, over seeds, with the paper's numbers beside.

RECIPE is one of the package's, one for each table of the paper (``--list`` shows them), or the path of a TOML file of
your own; the top of `diffcore_gpu/benchmarks/training/recipe.py` tells its fields. ``--real`` holds ``train/``
and the folders that the recipe evaluates on (``val/``, ``test/``), each with one folder of images for each class.
``--store`` holds the counterparts of ``train/`` at the training size; arms without counterparts run without it.
Everything is checked before anything is trained. Try a recipe with two steps first:

    diffcore bench train table7 --real cars --store stores/cars --epochs 1 --steps 2 --seeds 0 --out try
    diffcore bench train table7 --real cars --store stores/cars --amp bf16 --channels-last --json table7.json

Each run leaves a checkpoint after every epoch. Runs that were cut off go on when the same command is given again, and
end as if they had never been cut; --seeds and --arms may be added later. The accuracy that counts is that of the last
epoch: to take the best epoch on a test set would be to choose by it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from diffcore_gpu.benchmarks.harness import options
from diffcore_gpu.benchmarks.harness.command import output_of
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
    listing,
    load_recipe,
    overridden,
)
from diffcore_gpu.benchmarks.training.step import FAILURES
from diffcore_gpu.errors import BenchmarkError, clause

PACKAGES = ("torchvision", "timm")
_INSTEAD = "In place of what the recipe says"
_NO_SETTING = ("seeds", "evaluate_every")
"""Fields of `Training` that a run may change when it goes on."""


def _list_recipes(wanted: bool) -> None:
    """Show the package's recipes and stop, as ``--help`` does."""
    if wanted:
        print(listing())
        raise typer.Exit


def _field(name: str, about: str, kind: Callable[[str], Any] = str, *, entry: bool = False, metavar: str = "N") -> Any:
    """An option that takes what the recipe's field of that name takes, or one entry of it where it is a list."""

    def convert(given: Any) -> Any:
        try:
            value = kind(str(given))
        except ValueError:
            raise typer.BadParameter(f"{given!r} is not a {'whole ' if kind is int else ''}number.") from None
        try:
            read = TRAINING_FIELDS[name]([value] if entry else value, "it")
        except BenchmarkError as error:
            raise typer.BadParameter(str(error)) from None
        return read[0] if entry else read

    return options.option(f"--{name.replace('_', '-')}", f"{_INSTEAD}: {about}", metavar, convert)


def _share(given: Any) -> float:
    try:
        value = float(given)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise typer.BadParameter(f"{str(given)!r} is not a number from 0 to 1.")
    return value


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


def main(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Name of a recipe, or path of a TOML file.")],
    real: Annotated[Path, options.folder("--real", "Folder with train/ and what the recipe evaluates on.")],
    list_: Annotated[
        bool,
        typer.Option("--list", callback=_list_recipes, is_eager=True, help="Show the package's recipes, and stop."),
    ] = False,
    store: Annotated[Path | None, options.folder("--store", "Counterparts of train/, at the training size.")] = None,
    variant: Annotated[
        str | None, options.option("--variant", "Of the recipe; needed where it has several.", "NAME")
    ] = None,
    arms: Annotated[
        list[str] | None, options.option("--arms", "Only these; the first is what others are compared with.", "ARM")
    ] = None,
    out: Annotated[
        Path | None, options.folder("--out", "Folder of checkpoints. Default: beside --json, else train-runs.")
    ] = None,
    model: Annotated[
        str | None, _field("model", "of torchvision, timm, or preact_resnet18 and 34.", metavar="NAME")
    ] = None,
    pretrained: Annotated[
        bool | None, typer.Option("--pretrained/--no-pretrained", help=f"{_INSTEAD}: begin with ImageNet weights.")
    ] = None,
    size: Annotated[int | None, _field("size", "height and width of the images.", int)] = None,
    augmentation: Annotated[
        str | None, options.choice("--augmentation", _INSTEAD, "augmentation", AUGMENTATIONS)
    ] = None,
    epochs: Annotated[
        int | None, _field("epochs", "their number; the steps of the learning rate move in proportion.", int)
    ] = None,
    batch: Annotated[int | None, _field("batch", "images of a batch.", int)] = None,
    lr: Annotated[float | None, _field("lr", "learning rate at the beginning.", float)] = None,
    weight_decay: Annotated[float | None, _field("weight_decay", "of SGD.", float)] = None,
    images_per_class: Annotated[int | None, _field("images_per_class", "train on so many of each class.", int)] = None,
    splits: Annotated[
        list[str] | None, _field("splits", "folders to evaluate on.", entry=True, metavar="SPLIT")
    ] = None,
    seeds: Annotated[list[int] | None, _field("seeds", "one run for each.", int, entry=True, metavar="SEED")] = None,
    evaluate_every: Annotated[
        int | None, _field("evaluate_every", "epochs between two evaluations; the last one always is.", int)
    ] = None,
    workers: Annotated[int, options.number("--workers", "Of the loader.", options.not_negative)] = 4,
    amp: Annotated[str, options.choice("--amp", "Mixed precision", "precision", AMP)] = "off",
    channels_last: Annotated[bool, options.flag("--channels-last", "Memory format of model and images.")] = False,
    steps: Annotated[
        int | None, options.number("--steps", "At most so many steps of an epoch, to try a recipe.")
    ] = None,
    allow_missing: Annotated[
        float,
        options.option(
            "--allow-missing",
            "Train although this share of the samples lacks the counterparts of its arm.",
            "SHARE",
            _share,
        ),
    ] = 0.0,
    retry_failed: Annotated[bool, options.flag("--retry-failed", "Run again what failed before.")] = False,
    device: options.Device = "cuda",
    json: options.ResumableJson = None,
    budget_minutes: options.BudgetMinutes = None,
) -> None:
    """Check, train, print, and write JSON if asked."""
    chosen = load_recipe(recipe)
    its_variant, its_arms = chosen.variant(variant), chosen.choose_arms(arms)
    given = {
        "model": model, "pretrained": pretrained, "size": size, "augmentation": augmentation, "epochs": epochs,
        "batch": batch, "lr": lr, "weight_decay": weight_decay, "images_per_class": images_per_class,
        "splits": splits and tuple(dict.fromkeys(splits)), "seeds": seeds and tuple(dict.fromkeys(seeds)),
        "evaluate_every": evaluate_every,
    }  # fmt: skip
    training = overridden(its_variant.training, {name: value for name, value in given.items() if value is not None})
    where = options.device_of(device)
    data = open_data(real, training.splits, training.images_per_class)
    fields = {name: value for name, value in asdict(training).items() if name not in _NO_SETTING}
    setting = {
        "recipe": chosen.name,
        "variant": its_variant.name,
        **fields,
        **{"amp": amp, "channels_last": channels_last, "steps": steps},
        "data": data.identity(),
    }
    run = Run("train", output_of(context, json, budget_minutes), where, setting, PACKAGES, timed=False)
    check_trained(training, len(data.class_names))
    beside = Path("train-runs") if json is None else json.with_name(f"{json.stem}-runs")
    work = (out or beside) / f"{chosen.name}-{its_variant.name}"
    prepared = prepare_arms(its_arms, data, training.size, store, work, allow_missing)
    with run.reading():
        _check_done(run, prepared, json)
    if retry_failed:
        run.result["results"] = [done for done in run.result["results"] if "failed" not in done]
    parts = [
        {"variant": its_variant.name, "arm": arm.name, "seed": seed} for seed in training.seeds for arm in its_arms
    ]
    execution = Execution(where, workers, amp, channels_last, steps, lambda: run.spent)
    runs = _Runs(training, data, prepared, execution, work, setting, parts)
    for part in parts:
        runs.checkpoint(part).check()
    run.result["paper"] = {arm: dict(values) for arm, values in its_variant.paper.items()}
    print(
        f"{its_variant.title}: {len(its_arms)} arms × {len(training.seeds)} seeds, {training.epochs} epochs of "
        f"{len(EpochBatches(data.part, training.batch, 0, steps))} steps; checkpoints in {work}",
        file=sys.stderr,
        flush=True,
    )
    with _fastest(where):
        run.do(parts, runs.measure, run_line)
    names = [arm.name for arm in its_arms]
    with run.reading():
        for split in training.splits:
            print(accuracy_table(run.result["results"], names, split, its_variant.paper), end="\n\n")
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
