"""The site's own extensions, on a site of one page: commands with all options, links out of docstrings, equations."""

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

PAGE = r"""
Title
=====

.. py:module:: diffcore_gpu

.. autoclass:: diffcore_gpu.OccurrenceSampler
   :members:

.. autoclass:: diffcore_gpu.IndexedDataset

.. autoclass:: diffcore_gpu.PrefetchLoader

.. autofunction:: diffcore_gpu.mix

With :math:`\tau_k` in the line, and a block:

.. math:: \frac{T_1}{T_2}

.. command-line::
"""
CONF = """
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "command_line", "docstring_links", "math_as_mathml"]
html_math_renderer = "mathml"
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
        names = [
            (parameter.metavar or option.upper()) if parameter.param_type_name == "argument" else option
            for parameter in command.params
            for option in parameter.opts
        ]
        missing = [option for option in names if option not in part]
        assert name == "bench" or missing == []
    assert [suite for suite in SUITES if f"diffcore bench {suite}¶" not in shown] == []


@pytest.mark.filterwarnings("default")
def test_names_in_docstrings_are_links_where_they_lead_somewhere_and_else_code(page: str) -> None:
    assert re.search(r'href="#diffcore_gpu.IndexedDataset"[^>]*><code[^>]*>.*?IndexedDataset', page)
    assert re.search(r"<code[^>]*>.*?SAMPLE_BITS", page)
    assert not re.search(r"<a [^>]*><code[^>]*>[^/]*?SAMPLE_BITS", page)


@pytest.mark.filterwarnings("default")
def test_names_of_parameters_are_code_even_where_something_else_has_the_name(page: str) -> None:
    loader = page.partition('id="diffcore_gpu.PrefetchLoader"')[2].partition('id="diffcore_gpu.mix"')[0]
    assert re.search(r"<code[^>]*>(?:<[^>]*>)*mix<", loader)
    assert 'href="#diffcore_gpu.mix"' not in loader


@pytest.mark.filterwarnings("default")
def test_equations_are_mathml_and_need_no_script(page: str) -> None:
    line, block = re.findall(r"<math .*?</math>", page, re.DOTALL)
    assert 'display="block"' in block
    assert 'display="block"' not in line
    assert re.sub(r"<[^>]+>|\s", "", line) == "τk"
    assert "<mfrac>" in block
    assert "\\tau" not in page
    assert not re.search(r"<script[^>]*math", page, re.IGNORECASE)


@pytest.mark.filterwarnings("default")
def test_code_in_the_help_of_an_option_is_code(page: str) -> None:
    assert re.search(r"as <code[^>]*><span[^>]*>generate</span></code> does", page)
