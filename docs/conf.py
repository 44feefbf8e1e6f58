"""The site's settings: Sphinx, MyST for Markdown, and the tutorial's notebook, which is run at every build."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

from sphinx.application import Sphinx

import diffcore_gpu
from diffcore_gpu import baselines, profiling, transform

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "extensions"))
PYPROJECT = tomllib.loads((HERE.parent / "pyproject.toml").read_text("utf-8"))["project"]

project = PYPROJECT["name"]
version = release = diffcore_gpu.__version__
author = f"the authors of {project}"
copyright = author
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "command_line",
    "docstring_links",
    "math_as_mathml",
]
exclude_patterns = ["_build", "jupyter_execute"]
nitpicky = True
# Types in signatures: internal ones, and those of libraries, whose inventories would have to be fetched from a network.
nitpick_ignore_regex = [
    (r"py:.*", r"(torch|numpy|np|npt|pathlib|collections|contextlib|typing|enum|types|abc)\..*"),
    (r"py:class", r"diffcore_gpu\.(geometry\.GeometryStage|handover\.Draw|plan\.\w+\.(Draw|Crop)Parameters)"),
    (r"py:class", r"diffcore_gpu\.(plan\.spec\.HasPairs|store\.shard_reader\.RowCheck)"),
    (r"py:class", r"diffcore_gpu\.store\.(files\.(Locate|Place)|manifest\.(FileEntry|Manifest))"),
]
# Imported for type checkers alone: without it, the signatures of these modules would show the names of their types.
for module in (baselines, profiling, transform):
    module.CounterpartStore = diffcore_gpu.CounterpartStore  # type: ignore[attr-defined]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "fieldlist"]
html_math_renderer = "mathml"
myst_heading_anchors = 3
nb_execution_mode = "force"  # "cache" would show what an older version of the library printed
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "signature"  # types and defaults; docstrings say what types cannot: shapes, dtypes, ranges
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 100  # longer ones have a line for each argument
autodoc_default_options = {"members": True, "exclude-members": "__init__, __new__"}
default_role = "docstring-link"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False  # what stands before the colon of “Returns” is prose, such as “uint8 [n, C, H, W]”
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {
    "source_repository": PYPROJECT["urls"]["Repository"],
    "source_branch": "main",
    "source_directory": "docs/",
}
copybutton_exclude = ".linenos, .gp, .go"
linkcheck_anchors_ignore_for_url = [r"https://github\.com/"]  # which draws its anchors by a script

NOT_RUN = re.compile(r"^```(\w+) not run: (.+)$", re.MULTILINE)


def show_why_a_block_is_not_run(app: Sphinx, name: str, content: list[str]) -> None:
    """Show the reason in the fence of a block that tests do not run (```` ```bash not run: … ````) as its caption."""
    content[0] = NOT_RUN.sub(r"```{code-block} \1\n:caption: " r"'Not run by the tests: \2'\n", content[0])


def setup(app: Sphinx) -> None:
    """Connect."""
    app.connect("source-read", show_why_a_block_is_not_run)
    app.connect("include-read", lambda app, parent, name, content: show_why_a_block_is_not_run(app, name, content))
