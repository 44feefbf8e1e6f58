"""Recipes are read into what they say, and whatever is wrong with one is said in a sentence."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffcore_gpu.benchmarks.paper import CUB_ACCURACY, OURS
from diffcore_gpu.benchmarks.training.recipe import (
    TRAINING_FIELDS,
    Training,
    built_in,
    listing,
    load_recipe,
    overridden,
    parse_recipe,
)
from diffcore_gpu.errors import BenchmarkError

TEXT = """
title = "Two arms"
[training]
model = "resnet18"
lr = 1
model_settings = { zero_init_residual = true }
[[arms]]
name = "plain"
method = "vanilla"
[[arms]]
name = "half"
method = "diffcore-mix"
coverage = 0.5
settings = { lam = [0.2, 0.8] }
[variants.birds]
title = "Birds"
paper.half.test = { top1 = 61, top5 = 80.5 }
[variants.cars]
title = "Cars"
model = "vgg11"
epochs = 20
splits = ["val"]
"""


def test_a_recipe_says_what_its_file_says() -> None:
    recipe = parse_recipe("mine", TEXT)
    assert (recipe.name, recipe.title, list(recipe.variants)) == ("mine", "Two arms", ["birds", "cars"])
    plain, half = recipe.arms
    assert (plain.method, plain.has_counterparts, plain.needs_store) == ("vanilla", False, False)
    assert (half.coverage, half.settings, half.counterparts, half.needs_store) == (
        0.5,
        {"lam": [0.2, 0.8]},
        "generated",
        True,
    )
    birds, cars = recipe.variant("birds"), recipe.variant("cars")
    assert birds.training == Training("resnet18", {"zero_init_residual": True}, lr=1.0)
    assert birds.paper == {"half": {"test": {"top1": 61.0, "top5": 80.5}}}
    assert (cars.training.model, cars.training.model_settings, cars.training.epochs) == ("vgg11", {}, 20)
    assert cars.training.splits == ("val",)
    assert cars.paper == {}


def test_arms_and_variants_are_chosen_by_name() -> None:
    recipe = parse_recipe("mine", TEXT)
    assert [arm.name for arm in recipe.choose_arms(None)] == ["plain", "half"]
    assert [arm.name for arm in recipe.choose_arms(["half", "plain", "half"])] == ["half", "plain"]
    with pytest.raises(BenchmarkError, match=r"mine has no arm 'halve'; did you mean half\?"):
        recipe.choose_arms(["halve"])
    with pytest.raises(BenchmarkError, match=r"several variants; choose one with --variant: birds, cars\."):
        recipe.variant(None)
    with pytest.raises(BenchmarkError, match=r"no variant 'car'; did you mean cars\?"):
        recipe.variant("car")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('model = "resnet18"', "", "mine: variant birds: names no model, and neither does [training]."),
        ("epochs = 20", "epoch = 20", "mine: variant cars: there is no field 'epoch'; did you mean epochs, of_epochs?"),
        ("epochs = 20", 'epochs = "20"', "mine: variant cars: epochs must be a whole number from 1, not '20'."),
        ("epochs = 20", "epochs = true", "mine: variant cars: epochs must be a whole number from 1, not True."),
        ("lr = 1", "lr = 0", "mine: training: lr must be a number above 0, not 0."),
        ("lr = 1", "lr = nan", "mine: training: lr must be a number above 0, not nan."),
        ("lr = 1", 'augmentation = "smal"', "mine: training: augmentation: there is no augmentation 'smal'; did you "
            "mean small?"),
        ("lr = 1", "seeds = [1, 1]", "mine: training: seeds must be a list without repeats, not [1, 1]."),
        ("lr = 1", "seeds = []", "mine: training: seeds must be a list that is not empty, not []."),
        ("lr = 1", 'splits = ["../x"]', "mine: training: splits must be a name of letters, digits, '.', '_', '+' and "
            "'-', not '../x'."),
        ('"vanilla"', '"mixupp"', "mine: arm 1: method: there is no method 'mixupp'; did you mean mixup, comixup, "
            "pixmix?"),
        ("coverage = 0.5", "coverage = 0", "mine: arm 2: coverage must be a number above 0 up to 1, not 0."),
        ("coverage = 0.5", 'counterparts = "reel"', "mine: arm 2: counterparts: there is no kind of counterparts "
            "'reel'; did you mean real?"),
        ('method = "vanilla"', 'method = "mixup"\ncoverage = 1', "mine: arm 1: mixup mixes with no counterparts, so "
            "coverage means nothing to it."),
        ('method = "vanilla"', 'method = "vanilla"\nsettings = {p = 1}', "mine: arm 1: vanilla has no settings."),
        ('name = "plain"', "", "mine: arm 1: the field 'name' is missing."),
        ('name = "plain"', 'name = "half"', "mine: has two arms named 'half'; give each a name of its own."),
        ("paper.half", "paper.halv", "mine: variant birds: paper: there is no arm 'halv'; did you mean half?"),
        ("half.test", "half.val", "mine: variant birds: paper of half: there is no split 'val'; known are test."),
        ("top1 = 61", "top1 = 610", "mine: variant birds: paper of half on test: top1 must be a number from 0 up to "
            "100, not 610."),
        ("title = \"Two arms\"", "title = Two", "mine: is not TOML: Invalid value (at line 2, column 9)."),
        ("[training]", "[trainings]", "mine: there is no field 'trainings'; did you mean training?"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(BenchmarkError) as error:
        parse_recipe("mine", TEXT.replace(old, new, 1))
    assert str(error.value) == message


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=4,
)


@given(st.sampled_from(sorted(TRAINING_FIELDS)), VALUES)
def test_no_value_of_a_field_gets_past_unchecked(name: str, value: Any) -> None:
    try:
        read = TRAINING_FIELDS[name](value, f"here: {name}")
    except BenchmarkError:  # any other error fails the test
        return
    wanted = {"model": str, "lr": float, "epochs": int, "seeds": tuple, "model_settings": dict, "pretrained": bool}
    assert isinstance(read, wanted.get(name, object))


def test_files_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(TEXT)
    assert load_recipe(str(path)) == parse_recipe("own", TEXT)
    with pytest.raises(BenchmarkError, match=r"missing\.toml: cannot be read: No such file"):
        load_recipe(str(tmp_path / "missing.toml"))
    with pytest.raises(BenchmarkError, match=r"^there is no recipe 'tabel7'; did you mean table7.*by its path"):
        load_recipe("tabel7")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(BenchmarkError, match="is not UTF-8 text"):
        load_recipe(str(path))


def test_the_packages_recipes_are_the_papers_tables() -> None:
    assert list(built_in()) == ["table2", "table3", "table4", "table5", "table7", "table8"]
    assert [line.split()[0] for line in listing().splitlines()] == list(built_in())
    rows = {"table2": 9, "table3": 11, "table4": 9, "table5": 8, "table7": 8, "table8": 2}
    for name in built_in():
        recipe = load_recipe(name)
        for variant in recipe.variants.values():
            training = variant.training
            missing = {"pixmix"} if variant.name == "tiny-imagenet" else set()  # the table has a dash there
            without = [arm.name for arm in recipe.arms if arm.name not in variant.paper and arm.name not in missing]
            assert without == [] if name in ("table5", "table7", "table8") else ["vanilla"]
            assert len(variant.paper) == rows[name] - len(missing)
            assert all(set(of) == set(training.splits) for of in variant.paper.values())
            assert (training.lr, training.momentum, training.weight_decay) == (0.01, 0.9, 5e-4)
            assert (training.epochs, training.batch, training.milestones) == (300, 16, (150, 225))
    cub = load_recipe("table4").variant("cub").paper
    ours = {OURS if name == "diffcore-mix-100" else name: of["test"]["top1"] for name, of in cub.items()}
    assert {name: ours[name] for name in CUB_ACCURACY} == CUB_ACCURACY


def test_every_switch_of_table_7_is_separate() -> None:
    arms = {arm.name: (arm.counterparts, arm.coverage, dict(arm.settings)) for arm in load_recipe("table7").arms[1:]}
    assert arms == {
        "genaug": ("generated", 1.0, {"p": 0.5, "pixel_prob": 1.0, "lam": 0.0}),
        "pixel": ("real", 1.0, {"pixel_prob": 1.0}),
        "patch": ("real", 1.0, {"pixel_prob": 0.0}),
        "genaug-pixel": ("generated", 1.0, {"pixel_prob": 1.0}),
        "genaug-patch": ("generated", 1.0, {"pixel_prob": 0.0}),
        "diffcore-mix-50": ("generated", 0.5, {"pixel_prob": 0.5}),
        "diffcore-mix-100": ("generated", 1.0, {"pixel_prob": 0.5}),
    }


def test_the_example_at_the_top_of_the_module_is_a_recipe() -> None:
    import diffcore_gpu.benchmarks.training.recipe as module

    assert module.__doc__ is not None
    example = "\n".join(line[4:] for line in module.__doc__.splitlines() if line.startswith("    "))
    assert tomllib.loads(example)
    recipe = parse_recipe("example", example)
    assert recipe.variant("cub").paper["vanilla"]["test"]["top1"] > 0
    assert [arm.name for arm in recipe.arms] == ["vanilla", "diffcore-mix-50"]


def test_the_learning_rate_is_torchs_schedule() -> None:
    training = Training("m", epochs=300)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=training.lr)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [150, 225], 0.1)
    for epoch in range(300):
        assert training.lr_at(epoch) == pytest.approx(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()


@given(st.integers(1, 1000))
def test_in_a_run_of_other_length_the_learning_rate_falls_in_proportion(epochs: int) -> None:
    training = Training("m", epochs=epochs)
    rates = [training.lr_at(epoch) for epoch in range(epochs)]
    assert rates[0] == 0.01 or epochs == 0
    assert rates.count(0.01) == -(-epochs // 2)  # half of them, rounded up
    assert sum(rate > 0.0005 for rate in rates) == -(-3 * epochs // 4)


def test_another_model_leaves_the_settings_of_the_first_behind() -> None:
    training = Training("preact_resnet34", {"stem": "large"})
    assert overridden(training, {"model": "resnet18", "lr": 0.1}) == Training("resnet18", lr=0.1)
    assert overridden(training, {"model": "preact_resnet34", "size": 64}).model_settings == {"stem": "large"}
