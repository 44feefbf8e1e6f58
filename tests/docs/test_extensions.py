"""The site's own extensions, on a site of one page: every command with every option, and links out of docstrings."""

from __future__ import annotations

import html
import re
import sys
from pathlib import Path

import pytest
import typer

from diffcore_gpu.benchmarks.suites import SUITES
from diffcore_gpu.cli import app
from tests.docs.pages import DOCS

pytest.importorskip("sphinx", reason="the extra docs brings it")
from sphinx.testing.util import SphinxTestApp

PAGE = """
Title
=====

.. py:module:: diffcore_gpu

.. autoclass:: diffcore_gpu.OccurrenceSampler
   :members:

.. autoclass:: diffcore_gpu.IndexedDataset

.. command-line::
"""
CONF = """
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "command_line", "docstring_links"]
default_role = "docstring-link"
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    source = tmp_path_factory.mktemp("site")
    (source / "conf.py").write_text(CONF)
    (source / "index.rst").write_text(PAGE)
    sys.path.insert(0, str(DOCS / "extensions"))
    try:
        site = SphinxTestApp("html", srcdir=source)
        site.build()
    finally:
        sys.path.remove(str(DOCS / "extensions"))
    assert site.warning.getvalue() == ""
    text = Path(site.outdir, "index.html").read_text("utf-8")
    site.cleanup()
    return text


@pytest.mark.filterwarnings("default")  # of Sphinx
def test_every_command_is_there_with_every_option(page: str) -> None:
    shown = html.unescape(re.sub("<[^>]+>", "", page))
    group = typer.main.get_command(app)
    for name, command in group.commands.items():
        part = shown.partition(f"diffcore {name}¶")[2]
        assert part, name
        missing = [option for parameter in command.params for option in parameter.opts if option not in part]
        assert name == "bench" or missing == []
    assert [suite for suite in SUITES if f"diffcore bench {suite}¶" not in shown] == []


@pytest.mark.filterwarnings("default")
def test_names_in_docstrings_are_links_where_they_lead_somewhere_and_else_code(page: str) -> None:
    assert re.search(r'href="#diffcore_gpu.IndexedDataset"[^>]*><code[^>]*>.*?IndexedDataset', page)
    assert re.search(r"<code[^>]*>.*?SAMPLE_BITS", page)
    assert not re.search(r"<a [^>]*><code[^>]*>[^/]*?SAMPLE_BITS", page)
