"""The reference has every public name, once, and every page is reached from the first."""

from __future__ import annotations

import importlib
import re

import pytest

import diffcore_gpu as dc
from tests.docs.pages import DOCS, ROOT

DIRECTIVE = re.compile(r"^\.\. auto(?:class|function|exception|data):: ([\w.]+)$", re.MULTILINE)


def documented(name: str = "*") -> list[str]:
    return [
        found for page in sorted(DOCS.glob(f"reference/{name}.md")) for found in DIRECTIVE.findall(page.read_text())
    ]


def test_every_public_name_has_its_place() -> None:
    of_the_package = [name for name in documented() if name.startswith("diffcore_gpu.") and name.count(".") == 1]
    assert sorted(of_the_package) == [f"diffcore_gpu.{name}" for name in dc.__all__]
    overview = (DOCS / "reference" / "index.md").read_text()
    assert [name for name in dc.__all__ if f"`{name}`" not in overview] == []


def test_every_name_of_the_comparison_methods_has_its_place() -> None:
    module = importlib.import_module("diffcore_gpu.baselines")
    assert sorted(documented("baselines")) == sorted(f"{module.__name__}.{name}" for name in module.__all__)


@pytest.mark.parametrize("name", documented())
def test_what_is_documented_exists_and_says_something(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    value = getattr(importlib.import_module(module), attribute)
    assert getattr(value, "__doc__", None)


def test_every_page_is_in_the_table_of_contents() -> None:
    contents = set(re.findall(r"^[\w/]+$", (DOCS / "index.md").read_text(), re.MULTILINE))
    pages = {
        path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md") if "_build" not in path.parts
    }
    pages.add("tutorial")
    assert pages - {"index"} <= contents
    assert [name for name in contents if not list(DOCS.glob(f"{name}.*"))] == []


def test_the_readme_is_one_page() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 120
