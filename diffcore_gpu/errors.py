"""The errors that this library raises for what a user can mend, each with one plain sentence."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

MAX_MESSAGE = 1500
"""Characters of a message: a file may hold a name or a number of any length, and a person reads the sentence."""


class DiffcoreError(Exception):
    """Base of every error with a message meant for a person; the command line prints it and exits with code 1."""

    def __init__(self, message: str) -> None:
        super().__init__(shortened(message, MAX_MESSAGE))


class StoreError(DiffcoreError):
    """A counterpart store is missing, damaged, of another version, in use, or does not fit what is asked of it.

    The message names the file and the cause.
    """


class PackError(DiffcoreError):
    """The images cannot be packed as asked. The message names the folder or file and what to do about it.

    Attributes:
        details: one line for each file or class that the message speaks of; empty where it names them itself.
    """

    def __init__(self, message: str, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.details = tuple(details)


class GenerationError(DiffcoreError):
    """Counterparts cannot be generated as asked. The message names the setting, file or folder and the mend."""


class BenchmarkError(DiffcoreError):
    """A suite, model, result file or device is not there, or is not one that can be used; one plain sentence."""


def shortened(text: str, most: int) -> str:
    """A text of at most `most` characters: of a longer one the beginning and the end, with “…” between."""
    if len(text) <= most:
        return text
    tail = most // 3
    return f"{text[: most - tail - 3]} … {text[-tail:]}"


def clause(error: BaseException) -> str:
    """What an exception says, as a clause of a longer sentence: its first line without a period; else its type."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def nearest(name: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """The end of a sentence: the known names that look like `name`; where none does, `otherwise`, or all of them."""
    names = list(dict.fromkeys(known))
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f"did you mean {', '.join(close)}?" if close else otherwise or f"known are {', '.join(names)}."
