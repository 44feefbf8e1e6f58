"""`{command-line}`: a section for each command of `diffcore` and each suite of its benchmarks, with its own help text.

The text is what ``--help`` prints when the site is built, so it is that of the code.
"""

from __future__ import annotations

import contextlib
import io
import os
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from diffcore_gpu.benchmarks.suites import SUITES, run_suite
from diffcore_gpu.cli import app as commands
from diffcore_gpu.cli import main


def help_of(command: str) -> str:
    """What ``diffcore COMMAND --help`` prints."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        main([*command.split(), "--help"])
    return said.getvalue().strip()


def help_of_suite(suite: str) -> str:
    """What ``diffcore bench SUITE --help`` prints."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        run_suite(suite, ["--help"])
    return said.getvalue().strip()


class CommandLine(SphinxDirective):
    """Takes no argument: all commands, then all suites."""

    def run(self) -> list[nodes.Node]:
        """One section for each."""
        os.environ["COLUMNS"] = "100"  # argparse and typer ask for the terminal's width
        names = [info.name for info in commands.registered_commands if info.name is not None]
        texts = {f"diffcore {name}": help_of(name) for name in names}
        texts |= {f"diffcore bench {suite}": help_of_suite(suite) for suite in SUITES}
        return [self._section(title, text) for title, text in texts.items()]

    def _section(self, title: str, text: str) -> nodes.section:
        section = nodes.section(ids=[nodes.make_id(title)], names=[nodes.fully_normalize_name(title)])
        section += nodes.title(title, title)
        block = nodes.literal_block(text, text)
        block["language"] = "text"
        section += block
        self.state.document.note_implicit_target(section, section)
        return section


def setup(app: Sphinx) -> dict[str, Any]:
    """Register."""
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True}
