"""What `make docs` checks of the built site: dead links, dead anchors, and what is loaded from elsewhere."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.docs.pages import DOCS

SPEC = importlib.util.spec_from_file_location("check_site", DOCS / "check_site.py")
assert SPEC is not None
assert SPEC.loader is not None
check_site = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(check_site)


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ('<a href="other.html#there">x</a><a href="folder/">x</a><a href="https://example.org/">x</a>', []),
        ('<h1 id="here">x</h1><a href="#here">x</a><a href="#">x</a>', []),
        ('<a href="none.html">x</a>', ["page.html: leads to none.html, which is not there."]),
        ('<a href="other.html#no">x</a>', ["page.html: leads to other.html#no, where there is no such anchor."]),
        ('<img src="none.png">', ["page.html: leads to none.png, which is not there."]),
        (
            '<script src="https://example.org/a.js"></script>',
            ["page.html: loads https://example.org/a.js from elsewhere."],
        ),
        ('<link rel="stylesheet" href="//example.org/a">', ["page.html: loads //example.org/a from elsewhere."]),
        ('<link rel="canonical" href="https://example.org/page.html">', []),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, body: str, wrong: list[str]) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "index.html").write_text("")
    (tmp_path / "other.html").write_text('<p id="there">x</p>')
    (tmp_path / "page.html").write_text(body)
    assert check_site.check(tmp_path) == wrong


def test_a_folder_without_pages_is_no_site(tmp_path: Path) -> None:
    assert check_site.check(tmp_path) == [f"{tmp_path}: there is no page."]
