"""Reading recipes, and checking every field of them.

A recipe is a TOML file:

    title = "Table 4: fine-grained classification with DenseNet-121"

    [training]                      # a field of `Training` each
    model = "densenet121"

    [[arms]]                        # the first is the one that the others are compared with
    name = "vanilla"
    method = "vanilla"

    [[arms]]
    name = "diffcore-mix-50"
    method = "diffcore-mix"
    coverage = 0.5                  # share of the samples of each class that have counterparts
    counterparts = "generated"      # or "real": other real images of the same class
    settings = { pixel_prob = 0.5 } # of the method; { beta = 0.2 } stands for Beta(0.2)

    [variants.cub]
    title = "CUB-200-2011"
    splits = ["test"]               # and any other field of `Training`
    paper.vanilla.test.top1 = 74.0  # percent, by arm and split
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffcore_gpu.baselines import BASELINES
from diffcore_gpu.benchmarks.paper import OURS, VANILLA
from diffcore_gpu.benchmarks.training.fields import (
    Readers,
    a_name,
    a_number,
    a_switch,
    a_table,
    a_text,
    one_out_of,
    read_fields,
    several,
    whole,
)
from diffcore_gpu.benchmarks.training.recipe import AUGMENTATIONS, COUNTERPARTS, Arm, Paper, Recipe, Training, Variant
from diffcore_gpu.errors import BenchmarkError, clause

TRAINING_FIELDS: Readers = {
    "model": a_text,
    "model_settings": a_table,
    "pretrained": a_switch,
    "size": whole(1),
    "augmentation": one_out_of("augmentation", AUGMENTATIONS),
    "epochs": whole(1),
    "batch": whole(1),
    "lr": a_number(above=0),
    "momentum": a_number(low=0, high=1),
    "weight_decay": a_number(low=0),
    "milestones": several(whole(1), at_least=0),
    "of_epochs": whole(1),
    "decay": a_number(above=0, high=1),
    "splits": several(a_name),
    "seeds": several(whole(0)),
    "images_per_class": whole(1),
    "evaluate_every": whole(1),
}
_ARM_FIELDS: Readers = {
    "name": a_name,
    "method": one_out_of("method", (VANILLA, OURS, *BASELINES)),
    "settings": a_table,
    "coverage": a_number(above=0, high=1),
    "counterparts": one_out_of("kind of counterparts", COUNTERPARTS),
}
_RECIPE_FIELDS: Readers = {"title": a_text, "training": a_table, "arms": several(a_table), "variants": a_table}


def parse_recipe(name: str, text: str) -> Recipe:
    """Read a recipe.

    Args:
        name: of the recipe.
        text: TOML.

    Raises:
        BenchmarkError: it is no TOML, or a field is missing, unknown or of another kind than it should be.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BenchmarkError(f"{name}: is not TOML: {clause(error)}.") from None
    found = read_fields(table, _RECIPE_FIELDS, name, needed=("title", "arms", "variants"))
    arms = tuple(_arm(entry, f"{name}: arm {number}") for number, entry in enumerate(found["arms"], 1))
    names = [arm.name for arm in arms]
    for arm_name in names:
        if names.count(arm_name) > 1:
            raise BenchmarkError(f"{name}: has two arms named {arm_name!r}; give each a name of its own.")
    shared = read_fields(found.get("training", {}), TRAINING_FIELDS, f"{name}: training")
    if not found["variants"]:
        raise BenchmarkError(f"{name}: has no variant; it needs a table [variants.NAME].")
    variants = {
        key: _variant(key, entry, shared, names, f"{name}: variant {key}") for key, entry in found["variants"].items()
    }
    return Recipe(name, found["title"], arms, variants)


def read_recipe(path: Path) -> Recipe:
    """Read the recipe of a file.

    Raises:
        BenchmarkError: of `parse_recipe`, or the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BenchmarkError(f"{path}: cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError:
        raise BenchmarkError(f"{path}: is not UTF-8 text, so no recipe.") from None
    return parse_recipe(path.stem, text)


def _arm(entry: Mapping[str, Any], where: str) -> Arm:
    given = read_fields(entry, _ARM_FIELDS, where, needed=("name", "method"))
    arm = Arm(**given)
    if arm.method == VANILLA and arm.settings:
        raise BenchmarkError(f"{where}: vanilla has no settings.")
    for key in ("coverage", "counterparts"):
        if key in given and not arm.has_counterparts:
            raise BenchmarkError(f"{where}: {arm.method} mixes with no counterparts, so {key} means nothing to it.")
    return arm


def _variant(name: str, entry: object, shared: Mapping[str, Any], arms: list[str], where: str) -> Variant:
    a_name(name, f"{where}: the name")
    readers = {"title": a_text, "paper": a_table, **TRAINING_FIELDS}
    given = read_fields(a_table(entry, where), readers, where, needed=("title",))
    title, paper = given.pop("title"), given.pop("paper", {})
    merged = {**shared, **given}
    if "model" not in merged:
        raise BenchmarkError(f"{where}: names no model, and neither does [training].")
    if "model" in given and "model_settings" not in given:
        merged.pop("model_settings", None)  # they were for the other model
    training = Training(**merged)
    return Variant(name, title, training, _paper(paper, arms, training.splits, where))


def _paper(table: Mapping[str, Any], arms: list[str], splits: tuple[str, ...], where: str) -> Paper:
    accuracy: Readers = {"top1": a_number(low=0, high=100), "top5": a_number(low=0, high=100)}
    of_arm: Readers = dict.fromkeys(splits, a_table)
    found = read_fields(table, dict.fromkeys(arms, a_table), f"{where}: paper", what="arm")
    return {
        arm: {
            split: read_fields(numbers, accuracy, f"{where}: paper of {arm} on {split}", what="number")
            for split, numbers in read_fields(of, of_arm, f"{where}: paper of {arm}", what="split").items()
        }
        for arm, of in found.items()
    }
