"""Recipes: how to train, with which arms, on which variants of a table of the paper, and its numbers beside.

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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from diffcore_gpu.baselines import BASELINES
from diffcore_gpu.benchmarks.paper import OURS, VANILLA
from diffcore_gpu.documents import MAX_SETTINGS, parse_toml, read_regular, why
from diffcore_gpu.errors import BenchmarkError, clause, nearest

AUGMENTATIONS = ("imagenet", "small")
COUNTERPARTS = ("generated", "real")
WITH_COUNTERPARTS = (OURS, "diffusemix")
"""The methods that mix with counterparts."""
_ENDING = ".toml"


def _wanted(what: str) -> WrapValidator:
    """Say that a value must be `what`, whatever is wrong with it; what is wrong with an entry of it stands."""

    def check(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
        try:
            return read(value)
        except ValidationError as error:
            if any(found["loc"] for found in error.errors()):
                raise
            raise PydanticCustomError("wanted", what) from None

    return WrapValidator(check)


def _known(kind: str, names: Sequence[str]) -> AfterValidator:
    def check(value: str) -> str:
        if value not in names:
            raise PydanticCustomError("unknown", f"there is no {kind} {value!r}; {nearest(value, names)}")
        return value

    return AfterValidator(check)


def _different(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise PydanticCustomError("wanted", "a list without repeats")
    return values


Text = Annotated[str, Field(strict=True, pattern=r"\S"), _wanted("a text")]
Name = Annotated[
    str,
    Field(strict=True, pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$"),
    _wanted("a name of letters, digits, '.', '_', '+' and '-'"),
]
Switch = Annotated[bool, Field(strict=True), _wanted("true or false")]
Count = Annotated[int, Field(strict=True, ge=1), _wanted("a whole number from 1")]
Seed = Annotated[int, Field(strict=True, ge=0), _wanted("a whole number from 0")]
_FINITE = Field(strict=True, allow_inf_nan=False)
Positive = Annotated[float, _FINITE, Field(gt=0), _wanted("a number above 0")]
NotNegative = Annotated[float, _FINITE, Field(ge=0), _wanted("a number from 0")]
Fraction = Annotated[float, _FINITE, Field(ge=0, le=1), _wanted("a number from 0 up to 1")]
Share = Annotated[float, _FINITE, Field(gt=0, le=1), _wanted("a number above 0 up to 1")]
Percent = Annotated[float, _FINITE, Field(ge=0, le=100), _wanted("a number from 0 up to 100")]
_TABLE = _wanted("a table")
Settings = Annotated[dict[str, Any], _TABLE]
_FILLED = Field(min_length=1), _wanted("a list that is not empty"), AfterValidator(_different)
Splits = Annotated[tuple[Name, ...], *_FILLED]
Seeds = Annotated[tuple[Seed, ...], *_FILLED]
Milestones = Annotated[tuple[Count, ...], _wanted("a list"), AfterValidator(_different)]

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

    model: Text
    model_settings: Settings = field(default_factory=dict)
    pretrained: Switch = False
    size: Count = 224
    augmentation: Annotated[Text, _known("augmentation", AUGMENTATIONS)] = "imagenet"
    epochs: Count = 300
    batch: Count = 16
    lr: Positive = 0.01
    momentum: Fraction = 0.9
    weight_decay: NotNegative = 5e-4
    milestones: Milestones = (150, 225)
    of_epochs: Count = 300
    decay: Share = 0.1
    splits: Splits = ("test",)
    seeds: Seeds = (0, 1, 2)
    images_per_class: Count | None = None
    evaluate_every: Count = 10

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

    name: Name
    method: Annotated[Text, _known("method", (VANILLA, OURS, *BASELINES))]
    settings: Settings = field(default_factory=dict)
    coverage: Share = 1.0
    counterparts: Annotated[Text, _known("kind of counterparts", COUNTERPARTS)] = "generated"

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


def _table(kind: type, needed: Sequence[str] = ()) -> type[BaseModel]:
    """The table that has the fields of a dataclass and no others, of which `needed` must be there."""
    hints = get_type_hints(kind, include_extras=True).items()
    fields: dict[str, Any] = {name: (hint, ... if name in needed else None) for name, hint in hints}
    return create_model(kind.__name__, __config__=ConfigDict(extra="forbid", protected_namespaces=()), **fields)


class _Training(_table(Training)):  # type: ignore[misc]
    pass


class _Arm(_table(Arm, needed=("name", "method"))):  # type: ignore[misc]
    pass


class _Accuracy(BaseModel, extra="forbid"):
    top1: Percent | None = None
    top5: Percent | None = None


_BySplit = Annotated[dict[str, Annotated[_Accuracy, _TABLE]], _TABLE]


class _Variant(_Training):
    title: Text
    paper: Annotated[dict[str, _BySplit], _TABLE] = Field(default_factory=dict)


class _Recipe(BaseModel, extra="forbid"):
    title: Text
    training: Annotated[_Training, _TABLE] = _Training()
    arms: Annotated[tuple[Annotated[_Arm, _TABLE], ...], Field(min_length=1), _wanted("a list that is not empty")]
    variants: Annotated[dict[Name, Annotated[_Variant, _TABLE]], _TABLE]


def _given(table: BaseModel) -> dict[str, Any]:
    """The fields that a table has."""
    return {name: getattr(table, name) for name in table.model_fields_set}


Reader = Callable[[object, str], Any]
"""Takes the value of a field and where it stands, for the message."""


def _reader(hint: Any) -> Reader:
    adapter = TypeAdapter[Any](hint)

    def read(value: object, where: str) -> Any:
        try:
            return adapter.validate_python(value)
        except ValidationError as error:
            raise BenchmarkError(_sentence(where, error.errors()[0])) from None

    return read


TRAINING_FIELDS = {name: _reader(hint) for name, hint in get_type_hints(Training, include_extras=True).items()}
"""Of every field of `Training` what reads a value of it; raises `BenchmarkError`."""


def _sentence(where: str, error: ErrorDetails) -> str:
    if error["type"] == "wanted":
        return f"{where} must be {error['msg']}, not {error['input']!r}."
    return f"{where}: {error['msg']}"


def _place(name: str, loc: Sequence[int | str]) -> list[str]:
    """Where in the recipe `name` something stands: file, arm or variant, and field."""
    match loc:
        case ("arms", int(number), *rest):
            parts = [f"arm {number + 1}", *rest]
        case ("variants", key, "paper", arm, split, number):
            parts = [f"variant {key}", f"paper of {arm} on {split}", number]
        case ("variants", key, "paper", arm, split):
            parts = [f"variant {key}", f"paper of {arm}", split]
        case ("variants", key, *rest):
            parts = [f"variant {key}", *("the name" if part == "[key]" else part for part in rest)]
        case _:
            parts = list(loc)
    return [name, *(part for part in parts if isinstance(part, str))]  # no numbers of entries


def _complaint(name: str, error: ErrorDetails) -> str:
    loc = error["loc"]
    *parents, last = _place(name, loc)
    where = ": ".join(parents)
    if error["type"] == "missing":
        return f"{where}: the field {last!r} is missing."
    if error["type"] == "extra_forbidden":
        tables = {"training": _Training, "arms": _Arm, "variants": _Variant if len(loc) == 3 else _Accuracy}
        table = _Recipe if len(loc) == 1 else tables[str(loc[0])]
        what = "number" if table is _Accuracy else "field"
        return f"{where}: there is no {what} {last!r}; {nearest(last, table.model_fields)}"
    return _sentence(f"{where}: {last}", error)


def parse_recipe(name: str, text: str) -> Recipe:
    """Read a recipe.

    Args:
        name: of the recipe.
        text: TOML.

    Raises:
        BenchmarkError: it is no TOML, or a field is missing, unknown or of another kind than it should be.
    """
    try:
        content = parse_toml(text)
    except tomllib.TOMLDecodeError as error:
        raise BenchmarkError(f"{name}: is not TOML: {clause(error)}.") from None
    except ValueError as error:
        raise BenchmarkError(f"{name}: cannot be read: {clause(error)}.") from None
    try:
        found = _Recipe.model_validate(content)
    except ValidationError as error:
        # An unknown field may be the wrong name of one that is missing, so it is told first.
        first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
        raise BenchmarkError(_complaint(name, first)) from None
    arms = tuple(_arm(_given(table), f"{name}: arm {number}") for number, table in enumerate(found.arms, 1))
    names = [arm.name for arm in arms]
    for arm_name in names:
        if names.count(arm_name) > 1:
            raise BenchmarkError(f"{name}: has two arms named {arm_name!r}; give each a name of its own.")
    if not found.variants:
        raise BenchmarkError(f"{name}: has no variant; it needs a table [variants.NAME].")
    shared = _given(found.training)
    variants = {
        key: _variant(key, table, shared, names, f"{name}: variant {key}") for key, table in found.variants.items()
    }
    return Recipe(name, found.title, arms, variants)


def _arm(given: Mapping[str, Any], where: str) -> Arm:
    arm = Arm(**given)
    if arm.method == VANILLA and arm.settings:
        raise BenchmarkError(f"{where}: vanilla has no settings.")
    for key in ("coverage", "counterparts"):
        if key in given and not arm.has_counterparts:
            raise BenchmarkError(f"{where}: {arm.method} mixes with no counterparts, so {key} means nothing to it.")
    return arm


def _variant(name: str, table: _Variant, shared: Mapping[str, Any], arms: Sequence[str], where: str) -> Variant:
    given = _given(table)
    title, accuracies = given.pop("title"), given.pop("paper", {})
    merged = {**shared, **given}
    if "model" not in merged:
        raise BenchmarkError(f"{where}: names no model, and neither does [training].")
    if "model" in given and "model_settings" not in given:
        merged.pop("model_settings", None)  # they were for the other model
    training = Training(**merged)
    _check_names(accuracies, arms, "arm", f"{where}: paper")
    for arm, of in accuracies.items():
        _check_names(of, training.splits, "split", f"{where}: paper of {arm}")
    paper = {arm: {split: _given(found) for split, found in of.items()} for arm, of in accuracies.items()}
    return Variant(name, title, training, paper)


def _check_names(given: Mapping[str, Any], known: Sequence[str], what: str, where: str) -> None:
    for name in given:
        if name not in known:
            raise BenchmarkError(f"{where}: there is no {what} {name!r}; {nearest(name, known)}")


def read_recipe(path: Path) -> Recipe:
    """Read the recipe of a file.

    Raises:
        BenchmarkError: of `parse_recipe`, or the file cannot be read.
    """
    try:
        text = read_regular(path, MAX_SETTINGS).decode("utf-8")
    except UnicodeDecodeError:
        raise BenchmarkError(f"{path}: is not UTF-8 text, so no recipe.") from None
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"{path}: cannot be read: {why(error)}.") from error
    return parse_recipe(path.stem, text)


def built_in() -> dict[str, str]:
    """The texts of the package's recipes, by name."""
    folder = files(__package__).joinpath("recipes")
    found = sorted((file for file in folder.iterdir() if file.name.endswith(_ENDING)), key=lambda file: file.name)
    return {file.name.removesuffix(_ENDING): file.read_text(encoding="utf-8") for file in found}


def load_recipe(name: str) -> Recipe:
    """A recipe of the package by its name, or of the user by the path of its file.

    Raises:
        BenchmarkError: there is none, or it is not as it should be.
    """
    recipes = built_in()
    if name in recipes:
        return parse_recipe(name, recipes[name])
    if name.endswith(_ENDING) or Path(name).exists():
        return read_recipe(Path(name))
    raise BenchmarkError(
        f"there is no recipe {name!r}; {nearest(name, recipes)} A file of your own is given by its path, NAME.toml."
    )


def listing() -> str:
    """The package's recipes, one line each, with their variants."""
    recipes = [parse_recipe(name, text) for name, text in built_in().items()]
    return "\n".join(f"{recipe.name:8} {recipe.title} ({', '.join(recipe.variants)})" for recipe in recipes)
