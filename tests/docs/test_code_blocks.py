"""The code of every page runs, in the order of the page and in one namespace, and prints what the page says.

A fence of `python` or `bash` is run; the fence of `text` that follows one is what it prints, with `…` for what differs
from one machine to another. A fence that cannot run says why: ```` ```bash not run: needs a network ````.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib.util
import io
import re
import shlex
import shutil
from pathlib import Path

import pytest

from diffcore_gpu.cli import main
from tests.docs.pages import PAGES, Fence, fences_of, name_of

pytest.importorskip("sybil", reason="the extra docs brings it")
from sybil import Document, Example, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.myst import CodeBlockParser

RUN = ("python", "bash")
SHOWN = ("text", "toml", "json")
NOT_RUN = 10
"""How many fences say that they are not run. Each is a claim that nobody checks: lower this where you can."""
IMPORT = re.compile(r"^(?:import|from) (\w+)", re.MULTILINE)


class Printed:
    """What the last block printed."""

    def __init__(self) -> None:
        self.text = ""

    def python(self, example: Example) -> None:
        """Run Python."""
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            PythonEvaluator()(example)
        self.text = said.getvalue()

    def bash(self, example: Example) -> None:
        """Run commands of `diffcore` within this process, which spares each the import of torch."""
        said = io.StringIO()
        for line in example.parsed.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            assert not words or words[0] == "diffcore", f"{example.path}:{example.line}: only diffcore is run: {line}"
            with contextlib.redirect_stdout(said):
                assert not words or main(words[1:]) == 0, line
        self.text = said.getvalue()

    def compare(self, example: Example) -> None:
        """Compare a block of output with what was printed, if it follows what prints."""
        if not self.text:
            return
        expected, got = example.parsed.replace("…", "..."), self.text
        checker, options = doctest.OutputChecker(), doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        assert checker.check_output(expected, got, options), f"{example.path}:{example.line}: printed was\n{got}"
        self.text = ""


def parse(page: Path) -> Document:
    printed = Printed()
    parsers = [
        CodeBlockParser("python", printed.python),
        CodeBlockParser("bash", printed.bash),
        CodeBlockParser("text", printed.compare),
    ]
    return Sybil(parsers=parsers).parse(page)


def blocks(page: Path, languages: tuple[str, ...]) -> list[Fence]:
    return [fence for fence in fences_of(page) if fence.info in languages]


def with_code() -> list[Path]:
    return [page for page in PAGES if blocks(page, RUN)]


@pytest.mark.filterwarnings("default")  # of libraries that the pages show
@pytest.mark.parametrize("page", with_code(), ids=name_of)
def test_the_code_of_a_page_runs_and_prints_what_it_says(page: Path, birds: Path) -> None:
    for fence in blocks(page, ("python",)):
        for package in IMPORT.findall(fence.body):
            if importlib.util.find_spec(package) is None:
                pytest.skip(f"{name_of(page)} shows {package}, which is not installed")
    if any(re.search(r"^diffcore pack .*--out stores/birds ", fence.body, re.MULTILINE) for fence in blocks(page, RUN)):
        shutil.rmtree(birds / "stores" / "birds")  # which the page makes
    examples = list(parse(page).examples())
    assert len(examples) >= len(blocks(page, RUN))
    for example in examples:
        example.evaluate()


def test_every_block_is_run_or_is_shown_or_says_why_not() -> None:
    infos = {name_of(page): [fence.info for fence in fences_of(page)] for page in PAGES}
    directive = re.compile(r"\{[\w-]+\}")
    reasoned = re.compile(rf"(?:{'|'.join(RUN)}) not run: \w.{{8,}}")
    other = {
        (page, info)
        for page, found in infos.items()
        for info in found
        if info not in RUN + SHOWN and not directive.match(info) and not reasoned.fullmatch(info)
    }
    assert not other
    assert sum(bool(reasoned.fullmatch(info)) for found in infos.values() for info in found) == NOT_RUN
