"""`{command-line}`: a section for each command of `diffcore` and each suite of its benchmarks, with all its options.

They are asked of the commands when the site is built, so they are those of the code. Suites are told by what their
``--help`` prints, where lines must stay as they are.
"""

from __future__ import annotations

import contextlib
import io
import os
from typing import Any

import typer
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from diffcore_gpu.benchmarks.suites import SUITES, run_suite
from diffcore_gpu.cli import app as commands


def help_of_suite(suite: str) -> str:
    """What ``diffcore bench SUITE --help`` prints."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        run_suite(suite, ["--help"])
    return said.getvalue().strip()


def _text(text: str) -> nodes.literal_block:
    block = nodes.literal_block(text, text)
    block["language"] = "text"
    return block


def _paragraph(text: str) -> nodes.paragraph:
    """A paragraph, in which `single backticks` hold code."""
    paragraph = nodes.paragraph()
    for number, part in enumerate(text.split("`")):
        paragraph += nodes.literal(part, part) if number % 2 else nodes.Text(part)
    return paragraph


def _options(records: list[tuple[str, str]]) -> nodes.definition_list:
    options = nodes.definition_list(classes=["options"])
    for option, what in records:
        term = nodes.term("", "", nodes.literal(option, option))
        options += nodes.definition_list_item("", term, nodes.definition("", _paragraph(what)))
    return options


class CommandLine(SphinxDirective):
    """Takes no argument: all commands, then all suites."""

    def run(self) -> list[nodes.Node]:
        """One section for each."""
        os.environ["COLUMNS"] = "100"  # argparse asks for the terminal's width
        group: Any = typer.main.get_command(commands)
        sections = [self._command(group, name, command) for name, command in group.commands.items()]
        for suite in SUITES:
            sections.append(self._section(f"diffcore bench {suite}", _text(help_of_suite(suite))))
        return sections

    def _command(self, group: Any, name: str, command: Any) -> nodes.section:
        context = command.make_context(name, [], parent=group.make_context("diffcore", [name]), resilient_parsing=True)
        found = [parameter.get_help_record(context) for parameter in command.get_params(context)]
        usage = _text(command.get_usage(context).removeprefix("Usage: "))
        about = _paragraph(" ".join(command.help.split()))
        records = [(option, " ".join(what.split())) for option, what in filter(None, found)]
        return self._section(f"diffcore {name}", about, usage, _options(records))

    def _section(self, title: str, *content: nodes.Node) -> nodes.section:
        section = nodes.section("", nodes.title(title, title), *content, ids=[nodes.make_id(title)])
        section["support_smartquotes"] = False  # which would make dashes of the hyphens before an option
        section["names"] = [nodes.fully_normalize_name(title)]
        self.state.document.note_implicit_target(section, section)
        return section


def setup(app: Sphinx) -> dict[str, Any]:
    """Register."""
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True}
