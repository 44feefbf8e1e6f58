"""Every message of an error is a full sentence: it ends with a period, or as a question."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for folder in ("diffcore_gpu", "benchmarks", "kernels") for path in (ROOT / folder).rglob("*.py"))

NO_SENTENCES = {
    "AssertionError": "is for who changes the code",
    "AttributeError": "has the wording that Python gives it",
    "ImageProblemError": "has a kind and a detail, of which the report of a pack makes its line",
    "PydanticCustomError": "has a clause, of which the reader of recipes makes its sentence",
    "Exit": "of typer has a number",
    "SystemExit": "may have a number",
    "KeyError": "has the key",
    "StopIteration": "has a value",
    "_elsewhere": "makes an error from the names and devices that it is given",
}
"""Errors whose arguments are no sentences, and why."""

ENDINGS = {
    "nearest": "gives a clause that ends as a question or with the list of what is known, and a period",
    "hint": "is what `nearest` gave, or a sentence in place of it",
    "known": "likewise",
}
"""Functions and names that may end a message in their own way, and why."""


def raised(path: Path) -> Iterator[tuple[int, str, list[ast.expr]]]:
    """(line, name, arguments) of each error that a file makes to raise it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            made = node.exc.func
            yield node.lineno, made.attr if isinstance(made, ast.Attribute) else getattr(made, "id", ""), node.exc.args


def last_part(message: ast.expr) -> ast.expr:
    """What a message ends with, where it is put together from literals: of an f-string or a sum the last part."""
    while True:
        if isinstance(message, ast.JoinedStr):
            message = message.values[-1]
        elif isinstance(message, ast.BinOp) and isinstance(message.op, ast.Add):
            message = message.right
        else:
            return message


def is_sentence(message: ast.expr) -> bool:
    end = last_part(message)
    if isinstance(end, ast.Constant):
        return not isinstance(end.value, str) or end.value.endswith((".", "?", "!"))
    if isinstance(end, ast.FormattedValue):
        called = end.value.func if isinstance(end.value, ast.Call) else end.value
        return getattr(called, "attr", getattr(called, "id", "")) in ENDINGS
    return True  # a name or a call of its own: not a literal


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_messages_are_sentences(path: Path) -> None:
    broken = [
        f"{path}:{line} {name}"
        for line, name, arguments in raised(path)
        if arguments and name not in NO_SENTENCES and not is_sentence(arguments[0])
    ]
    assert not broken


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ('"no period"', False),
        ('"a period."', True),
        ('f"{name} is wrong"', False),
        ('f"{name} is wrong, is it not?"', True),
        ('f"there is no {name}; {nearest(name, known)}"', True),
        ('f"wrong: {name}"', False),
        ('"a" + f"{name} b."', True),
        ('"a." + f"{name} b"', False),
    ],
)
def test_the_check_tells_sentences_from_others(code: str, expected: bool) -> None:
    assert is_sentence(ast.parse(code, mode="eval").body) is expected
