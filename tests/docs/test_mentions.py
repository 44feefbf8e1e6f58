"""Every path and dotted name of the project that a page mentions is there, so that no rename leaves a page behind."""

from __future__ import annotations

import functools
import importlib
import re
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, PAGES, ROOT, name_of

FOLDERS = ("diffcore_gpu", "kernels", "benchmarks", "tests", "docs", "examples", ".ci", ".github")
CODE = re.compile(r"`([^`\n]+)`")
PATH = re.compile(rf"(?:{'|'.join(map(re.escape, FOLDERS))})/[\w./-]*|[\w./-]+\.(?:py|sh)|[A-Z]+\.md|Makefile")
NAME = re.compile(r"(?:dc|diffcore_gpu|tests)(?:\.\w+)+")


@functools.cache
def in_the_repository() -> tuple[str, ...]:
    """The path of every file and folder, with a slash before it and, for folders, one behind."""
    roots = [ROOT / name for name in FOLDERS]
    found = [*ROOT.glob("*"), *(path for root in roots for path in root.rglob("*") if "_build" not in path.parts)]
    return tuple(f"/{path.relative_to(ROOT).as_posix()}{'/' * path.is_dir()}" for path in found)


def mentioned(page: Path) -> list[str]:
    """What stands in backticks outside fences, and the names that a command runs with ``python -m``."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    spans = CODE.findall(text)
    return spans + [module for span in spans for module in re.findall(r"python -m ([\w.]+)", span)]


def exists(path: str) -> bool:
    """Whether a file or folder has that path, or one that ends so; OP stands for any op."""
    pattern = re.compile(r"/" + re.escape(path.rstrip("/")).replace("OP", r"\w+") + "/?$")
    return any(pattern.search(known) for known in in_the_repository())


def is_a_name(dotted: str) -> bool:
    """Whether it is a module, or an attribute of one."""
    parts = re.sub(r"^dc\b", "diffcore_gpu", dotted).split(".")
    for split in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:split]))
        except ModuleNotFoundError:
            continue
        for part in parts[split:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_a_page_mentions_is_there(page: Path) -> None:
    spans = mentioned(page)
    paths = {span for span in spans if PATH.fullmatch(span) and not span.startswith("docs/_build")}
    assert {path for path in paths if not exists(path)} == set()
    assert {span for span in spans if NAME.fullmatch(span) and not is_a_name(span)} == set()


def test_what_is_gone_would_be_noticed() -> None:
    assert exists("plan/draw.py")
    assert exists("diffcore_gpu/plan/draw.py")
    assert not exists("diffcore_gpu/plan/drawn.py")
    assert is_a_name("dc.DiffCoreMix")
    assert not is_a_name("dc.DiffCoreMixer")
    assert not is_a_name("diffcore_gpu.planning")
    assert PATH.fullmatch("kernels/plan.py")
    assert NAME.fullmatch("diffcore_gpu.kernels.ahead_of_time")
    assert any(PATH.fullmatch(span) for span in mentioned(DOCS / "architecture.md"))
