"""The recipes that come with the package, one for each table of the paper, and those in files of the user's."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from diffcore_gpu.benchmarks.training.recipe import Recipe
from diffcore_gpu.benchmarks.training.recipe_parsing import parse_recipe, read_recipe
from diffcore_gpu.errors import BenchmarkError, nearest

_ENDING = ".toml"


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
