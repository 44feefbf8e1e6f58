"""The errors that this library raises for what a user can mend, each with one plain sentence."""

from __future__ import annotations


class DiffcoreError(Exception):
    """Base of every error with a message meant for a person; the command line prints it and exits with code 1."""


class StoreError(DiffcoreError):
    """A counterpart store is missing, damaged, of another version, in use, or does not fit what is asked of it.

    The message names the file and the cause.
    """


def clause(error: BaseException) -> str:
    """What an exception says, as a clause of a longer sentence: its first line without a period; else its type."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
