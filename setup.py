"""The description on a package index: the README, with links that work there.

All else stands in `pyproject.toml`. The README's links are relative, so that they work in a clone and on any branch; an
index shows it far from the files, so that there each is given the address of the repository, `[project.urls]`.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
BRANCH = "main"
PICTURES = {".gif", ".jpg", ".png", ".svg"}


def description() -> str:
    """Return the README with the address of the repository before each link to one of its files."""
    # Without tomllib, so that an older Python gets pip's sentence about it.
    (repository,) = re.findall(r'^Repository = "(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)

    def absolute(link: re.Match[str]) -> str:
        path = ROOT / link[0]
        if not path.exists():
            return link[0]
        return f"{repository}/{'raw' if path.suffix in PICTURES else 'blob'}/{BRANCH}/{link[0]}"

    return re.sub(r"(?<=]\()(?!#|[a-z]+:)[^)\s]+(?=\))", absolute, (ROOT / "README.md").read_text("utf-8"))


# setuptools warns so of every editable install whose folders are not named as its packages.
warnings.filterwarnings("ignore", message="Editable installation")

setup(long_description=description(), long_description_content_type="text/markdown")
