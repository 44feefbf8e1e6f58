"""What a recipe says: how to train, with which arms, on which variants of a table, and the paper's numbers beside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from diffcore_gpu.benchmarks.paper import OURS
from diffcore_gpu.errors import BenchmarkError, nearest

AUGMENTATIONS = ("imagenet", "small")
COUNTERPARTS = ("generated", "real")
WITH_COUNTERPARTS = (OURS, "diffusemix")
"""The methods that mix with counterparts."""

Paper = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Percent by arm, split, and "top1" or "top5"."""


@dataclass(frozen=True)
class Training:
    """How a model is trained and evaluated; the defaults are the paper's, where it states one.

    Attributes:
        model: a name that `diffcore_gpu.benchmarks.training.models.make_model` knows.
        model_settings: for the model's constructor.
        pretrained: begin with ImageNet weights.
        size: height and width of the images, in pixels.
        augmentation: "imagenet": random resized crop and flip; "small": crop out of the image padded by 4, and flip.
        epochs: how many.
        batch: samples of a step.
        lr: learning rate of SGD at the beginning.
        momentum: of SGD.
        weight_decay: of SGD.
        milestones: epochs after which the learning rate is multiplied by `decay`, counted for `of_epochs`.
        of_epochs: epochs that the milestones are meant for; in a run of other length they move in proportion.
        decay: the factor.
        splits: folders that are evaluated.
        seeds: one run for each.
        images_per_class: train on so many images of each class; None: on all.
        evaluate_every: epochs between evaluations, which are only for watching; the last epoch's is what counts.
    """

    model: str
    model_settings: Mapping[str, Any] = field(default_factory=dict)
    pretrained: bool = False
    size: int = 224
    augmentation: str = "imagenet"
    epochs: int = 300
    batch: int = 16
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    milestones: tuple[int, ...] = (150, 225)
    of_epochs: int = 300
    decay: float = 0.1
    splits: tuple[str, ...] = ("test",)
    seeds: tuple[int, ...] = (0, 1, 2)
    images_per_class: int | None = None
    evaluate_every: int = 10

    def lr_at(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0."""
        passed = sum(epoch * self.of_epochs >= milestone * self.epochs for milestone in self.milestones)
        return self.lr * self.decay**passed


@dataclass(frozen=True)
class Arm:
    """One way of training that is compared with others.

    Attributes:
        name: in tables and folders.
        method: "vanilla", "diffcore-mix", or a name of `diffcore_gpu.baselines`.
        settings: of the method, as the recipe writes them.
        coverage: share of the samples of each class that have counterparts, in (0, 1].
        counterparts: "generated", or "real": other real images of the same class.
    """

    name: str
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    coverage: float = 1.0
    counterparts: str = "generated"

    @property
    def has_counterparts(self) -> bool:
        """Whether the method mixes with counterparts."""
        return self.method in WITH_COUNTERPARTS

    @property
    def needs_store(self) -> bool:
        """Whether it mixes with generated counterparts, which a store must bring."""
        return self.has_counterparts and self.counterparts == "generated"


@dataclass(frozen=True)
class Variant:
    """One column of a table: a dataset, or a dataset and a model.

    Attributes:
        name: for ``--variant``.
        title: what it is.
        training: how to train.
        paper: the paper's numbers.
    """

    name: str
    title: str
    training: Training
    paper: Paper


@dataclass(frozen=True)
class Recipe:
    """A table of accuracies.

    Attributes:
        name: of the file, without its ending.
        title: one line.
        arms: in the order of the table.
        variants: by name.
    """

    name: str
    title: str
    arms: tuple[Arm, ...]
    variants: Mapping[str, Variant]

    def variant(self, name: str | None) -> Variant:
        """The variant of that name; None: the only one.

        Raises:
            BenchmarkError: there is none of that name, or there are several to choose from.
        """
        if name is None:
            if len(self.variants) > 1:
                raise BenchmarkError(
                    f"the recipe {self.name} has several variants; choose one with --variant: "
                    f"{', '.join(self.variants)}."
                )
            return next(iter(self.variants.values()))
        if name not in self.variants:
            raise BenchmarkError(f"the recipe {self.name} has no variant {name!r}; {nearest(name, self.variants)}")
        return self.variants[name]

    def choose_arms(self, names: list[str] | None) -> tuple[Arm, ...]:
        """The arms of these names, in this order; None: all.

        Raises:
            BenchmarkError: there is none of a name.
        """
        known = {arm.name: arm for arm in self.arms}
        for name in names or ():
            if name not in known:
                raise BenchmarkError(f"the recipe {self.name} has no arm {name!r}; {nearest(name, known)}")
        return self.arms if names is None else tuple(known[name] for name in dict.fromkeys(names))


def overridden(training: Training, given: Mapping[str, Any]) -> Training:
    """The same with other values in some fields.

    Args:
        training: as the recipe has it.
        given: fields by name; another model takes none of the `model_settings`.
    """
    if given.get("model", training.model) != training.model:
        given = {"model_settings": {}, **given}
    return replace(training, **given)
