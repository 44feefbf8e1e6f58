"""Prompt sets and the words that class names become."""

from __future__ import annotations

import string

import pytest

from diffcore_gpu.errors import GenerationError
from diffcore_gpu.generation.class_names import article, clean_label
from diffcore_gpu.generation.prompts import BUILT_IN, PromptSet, load_prompt_set


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("024.Red_faced_Cormorant", "red faced cormorant"),
        ("n02085620-Chihuahua", "chihuahua"),
        ("n02091831-Black-and-tan_coonhound", "black and tan coonhound"),
        ("Acura RL Sedan 2012", "Acura RL Sedan 2012"),
        ("AM General Hummer SUV 2000", "AM General Hummer SUV 2000"),
        ("AfricanElephant", "african elephant"),
        ("apple_pie", "apple pie"),
        ("00012_daisy", "daisy"),
        ("007-Bishop", "bishop"),
        ("DC-10", "DC-10"),
        ("747-400F", "747-400F"),
        ("18_wheeler", "18 wheeler"),
        ("T-shirt", "T-shirt"),
        ("8", "8"),
        ("0", "0"),
        ("  red  fox ", "red fox"),
        ("écureuil", "écureuil"),
        ("___", "___"),
    ],
)
def test_clean_label(name, label):
    assert clean_label(name) == label


@pytest.mark.parametrize(
    "text",
    [
        *("a red fox", "an owl", "an hour", "a unicorn", "a ukulele", "an umbrella", "an uninhabited island"),
        *(
            "a european robin",
            "an eagle",
            "a one-piece swimsuit",
            "an orange",
            "an heirloom",
            "a horse",
            "an honest man",
        ),
        *("an 8", "an 11", "an 18", "a 1", "a 7", "a 10", "an 80", "a 100", "an 18 wheeler"),
        *("an MD-80", "a DC-10", "an F/A-18", "a BMW 3 Series", "an SUV", "a USB stick", "a FIAT 500", "an AM radio"),
        *("an x-ray", "a T-shirt", "an X-ray", "an Acura RL", "a Hyundai", "an Audi", "an écureuil"),
    ],
)
def test_article(text):
    expected, label = text.split(" ", 1)
    assert article(label) == expected


def test_built_in_sets():
    assert set(BUILT_IN) == {"bird", "car", "flower", "aircraft", "dog", "food", "object", "digit"}
    for name, prompts in BUILT_IN.items():
        assert prompts.name == name
        assert len(set(prompts.contextual)) == len(prompts.contextual) >= (5 if name == "digit" else 6)
        assert prompts.negative
        assert load_prompt_set(name) is prompts


def test_digit_prompts_are_those_that_the_demo_model_was_trained_with():
    digit = BUILT_IN["digit"]
    styles = ("thin strokes", "bold strokes", "leaning to the left", "leaning to the right", "upright")
    assert [digit.render(k, "8") for k in range(5)] == [f"an 8, a handwritten digit, {style}" for style in styles]
    assert digit.render(4, "3") == "a 3, a handwritten digit, upright"
    assert digit.render_negative("3") == "blurred, noisy, empty, cut off"


def test_placeholders_are_all_filled_in():
    for prompts in BUILT_IN.values():
        for k in range(len(prompts.contextual)):
            text = prompts.render(k, "001.Old_{odd}_Owl")
            assert "old {odd} owl" in text
            assert "{a}" not in text
            assert list(string.Formatter().parse(prompts.contextual[k]))


def test_a_set_from_a_file(tmp_path):
    path = tmp_path / "mushroom.toml"
    path.write_text(
        'contextual = ["{a} {label} in moss", "the {label}, {{wet}}"]\nnegative = ["people", "no {label}"]\n'
    )
    prompts = load_prompt_set(path)
    assert prompts == PromptSet("mushroom", ("{a} {label} in moss", "the {label}, {{wet}}"), "people, no {label}")
    assert prompts.render(0, "Ink_cap") == "an ink cap in moss"
    assert prompts.render(1, "Ink_cap") == "the ink cap, {wet}"
    assert prompts.render_negative("Ink_cap") == "people, no ink cap"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'contextual = ["a {labl}"]\nnegative = ""',
            r"unknown placeholder \{labl\} in 'a \{labl\}'; \{label\} and \{a\}",
        ),
        ('contextual = ["a {label:9}"]\nnegative = ""', r"unknown placeholder \{label:9\}"),
        ('contextual = ["a {label.real}"]\nnegative = ""', r"unknown placeholder \{label.real\}"),
        ('contextual = ["{label}"]\nnegative = "no {0}"', r"unknown placeholder \{0\}"),
        ('contextual = ["a {label"]\nnegative = ""', r"cannot be read: .*write \{\{ and \}\} for plain braces"),
        ('contextual = ["a bird"]\nnegative = ""', r"'a bird' does not say \{label\}"),
        ("contextual = []\nnegative = ''", "contextual is empty; give at least one prompt"),
        ('contextual = ["{label}"]', "the key 'negative' is missing"),
        ('negative = ""', "the key 'contextual' is missing"),
        ('contextual = "{label}"\nnegative = ""', "contextual must be a list of texts"),
        ('contextual = ["{label}", " "]\nnegative = ""', "contextual must be a list of texts, none of them empty"),
        ('contextual = ["{label}"]\nnegative = 3', "negative must be a text"),
        ('contextual = ["{label}"]\nnegative = ""\nnegativ = ""', "unknown key 'negativ'; contextual, name, negative"),
        ("contextual = [", "is not TOML"),
        ("\0", "is not TOML"),
    ],
)
def test_a_bad_file(tmp_path, text, message):
    path = tmp_path / "set.toml"
    path.write_text(text)
    with pytest.raises(GenerationError, match=message) as caught:
        load_prompt_set(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_such_set(tmp_path):
    with pytest.raises(GenerationError, match=r"bigfoot cannot be read .*; the built-in sets are bird, car, flower"):
        load_prompt_set("bigfoot")
    (tmp_path / "latin.toml").write_bytes(b'negative = "\xe9"')
    with pytest.raises(GenerationError, match="is not TOML"):
        load_prompt_set(tmp_path / "latin.toml")
