"""Prompt sets: the contextual prompts P_c and the negative prompt P_n of eq. 4, for each type of dataset.

A set of your own is a TOML file; `name` is optional, and `{label}` must stand in every contextual prompt::

    name = "mushroom"
    contextual = [
      "{a} {label}, a mushroom on a mossy forest floor after rain",
      "{a} {label}, a mushroom among fallen leaves in low evening light",
    ]
    negative = "people, text, drawing, blurred"

`{label}` becomes the cleaned name of the class and `{a}` the article before it: “a” or “an”.
"""

from __future__ import annotations

import functools
import string
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffcore_gpu.documents import read_toml, why
from diffcore_gpu.errors import GenerationError, clause
from diffcore_gpu.generation.class_names import article, clean_label
from diffcore_gpu.generation.prompt_texts import TEXTS

__all__ = ["BUILT_IN", "PromptSet", "clean_label", "load_prompt_set"]

_PLACEHOLDERS = ("a", "label")
_KEYS = ("contextual", "name", "negative")


@dataclass(frozen=True)
class PromptSet:
    """What to ask the model for, and what to keep out of its images.

    Attributes:
        name: the type of dataset.
        contextual: the contextual prompts with their placeholders `{label}` and `{a}`; a prompt's id is its position.
        negative: the negative prompt, which may use the same placeholders; empty: none.

    Raises:
        GenerationError: there is no contextual prompt, one lacks `{label}`, or a placeholder is not known.
    """

    name: str
    contextual: tuple[str, ...]
    negative: str = ""

    def __post_init__(self) -> None:
        if not self.contextual:
            raise GenerationError(f"prompt set {self.name!r}: contextual is empty; give at least one prompt.")
        for text in (*self.contextual, self.negative):
            self._check(text)
        for text in self.contextual:
            if "label" not in _fields(text):
                raise GenerationError(f"prompt set {self.name!r}: {text!r} does not say {{label}}, the class's name.")

    def render(self, prompt_id: int, class_name: str) -> str:
        """The contextual prompt of that id for a class, given the name of the class's folder."""
        return _fill(self.contextual[prompt_id], class_name)

    def render_negative(self, class_name: str) -> str:
        """The negative prompt for a class, given the name of the class's folder."""
        return _fill(self.negative, class_name)

    def as_json(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {"name": self.name, "contextual": list(self.contextual), "negative": self.negative}

    def _check(self, text: str) -> None:
        try:
            fields = _fields(text)
        except ValueError as error:
            raise GenerationError(
                f"prompt set {self.name!r}: {text!r} cannot be read: {clause(error)}; write {{{{ and }}}} for plain "
                "braces."
            ) from error
        for field in fields:
            if field not in _PLACEHOLDERS:
                raise GenerationError(
                    f"prompt set {self.name!r}: unknown placeholder {{{field}}} in {text!r}; {{label}} and {{a}} are "
                    "known."
                )


def load_prompt_set(source: str | Path) -> PromptSet:
    """A built-in prompt set by its name, or a set of your own from a TOML file.

    Raises:
        GenerationError: it is neither, or the file is not as this module says.
    """
    if str(source) in BUILT_IN:
        return BUILT_IN[str(source)]
    path = Path(source)
    try:
        content = read_toml(path)
    except tomllib.TOMLDecodeError as error:
        raise GenerationError(f"{path} is not TOML: {clause(error)}.") from error
    except (OSError, ValueError) as error:
        raise GenerationError(
            f"{path} cannot be read as a file of prompts ({why(error)}); the built-in sets are {', '.join(BUILT_IN)}."
        ) from error
    return _from_toml(path, content)


def _from_toml(path: Path, content: Mapping[str, Any]) -> PromptSet:
    for key in content:
        if key not in _KEYS:
            raise GenerationError(f"{path}: unknown key {key!r}; {', '.join(_KEYS)} are known.")
    for key in ("contextual", "negative"):
        if key not in content:
            raise GenerationError(f"{path}: the key {key!r} is missing.")
    contextual, negative, name = content["contextual"], content["negative"], content.get("name", path.stem)
    if not isinstance(contextual, list) or not all(isinstance(text, str) and text.strip() for text in contextual):
        raise GenerationError(f"{path}: contextual must be a list of texts, none of them empty.")
    if isinstance(negative, list) and all(isinstance(text, str) for text in negative):
        negative = ", ".join(negative)
    if not isinstance(negative, str) or not isinstance(name, str):
        raise GenerationError(f"{path}: negative must be a text or a list of texts, and name a text.")
    try:
        return PromptSet(name, tuple(contextual), negative)
    except GenerationError as error:
        raise GenerationError(f"{path}: {clause(error)}.") from error


def _fields(text: str) -> list[str]:
    """The names in braces, with whatever stands beside them: `{label:5}` is no placeholder that we know."""
    return [
        field + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
        for _, field, form, conversion in string.Formatter().parse(text)
        if field is not None
    ]


@functools.lru_cache(maxsize=1 << 14)
def _fill(text: str, class_name: str) -> str:
    label = clean_label(class_name)
    return text.format(label=label, a=article(label))


BUILT_IN: dict[str, PromptSet] = {
    name: PromptSet(name, contextual, negative) for name, (contextual, negative) in TEXTS.items()
}
"""The sets that come with the library, by type of dataset."""
