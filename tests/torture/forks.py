"""A case in a process of its own, forked from a warm one: a hundred take seconds, and a signal is seen as such."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SECONDS = 120
"""After which a case counts as hung."""


@dataclass(frozen=True)
class Ended:
    """How a forked process ended.

    Attributes:
        answer: what its function returned, JSON; None where it did not return.
        error: the traceback of the exception that left it; empty where none did.
        signal: the name of the signal that ended it; empty where none did, SIGALRM where it hung.
    """

    answer: Any = None
    error: str = ""
    signal: str = ""


def end_with_parent() -> None:
    """Let the system kill this process when the one that started it ends, so that nothing goes on unseen."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def in_fork(do: Callable[[], Any], seconds: int = SECONDS) -> Ended:
    """Call a function in a forked process; the process that calls must have one thread."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        _answer(do, write_end, seconds)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as file:
        raw = file.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return Ended(signal=signal.Signals(os.WTERMSIG(status)).name)
    return Ended(**json.loads(raw))


def _answer(do: Callable[[], Any], write_end: int, seconds: int) -> None:
    try:
        end_with_parent()
        signal.alarm(seconds)
        try:
            answer = {"answer": do()}
        except BaseException:  # noqa: BLE001  the parent says it
            answer = {"error": traceback.format_exc()}
        signal.alarm(0)
        with os.fdopen(write_end, "wb") as file:
            file.write(json.dumps(answer).encode())
    finally:
        os._exit(0)
