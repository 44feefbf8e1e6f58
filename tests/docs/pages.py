"""What is checked of the documentation: its pages, and the fences in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    path for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")] if "_build" not in path.parts
)
_FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Fence:
    """A fenced block: the line that opens it, what it holds, and the number of that line."""

    info: str
    body: str
    line: int


def name_of(page: Path) -> str:
    """Its path in the repository."""
    return page.relative_to(ROOT).as_posix()


def fences_of(page: Path) -> list[Fence]:
    """The blocks of a page, in order."""
    text = page.read_text("utf-8")
    return [
        Fence(found["info"], found["body"], text.count("\n", 0, found.start()) + 1) for found in _FENCE.finditer(text)
    ]
