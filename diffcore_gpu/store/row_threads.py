"""Threads that read and decode rows: one pool for the process, made when it is first needed, and made anew in a fork.

A row is read by a system call and decoded by a library, and both let the interpreter go on meanwhile.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import NamedTuple

import torch

MOST_THREADS = 16
"""Threads that work on one batch at most."""

_PER_PROCESSOR = 2  # while one waits for storage, the other decodes


class _Failure(NamedTuple):
    position: int
    error: Exception


def for_each(job: Callable[[int], None], count: int) -> None:
    """Call job(position) for each position in [0, count), in several threads, of which the caller's is one.

    There are two for each thread that torch uses, and 16 at most; where torch uses one, as in the workers of a
    `DataLoader`, the caller's does everything. When this returns or raises, no thread is at it any more.

    Raises:
        Exception: that of the lowest position whose job raised; jobs of higher positions may not have been done.
    """
    allowed = torch.get_num_threads()
    threads = 1 if allowed == 1 else min(_PER_PROCESSOR * allowed, MOST_THREADS, count)
    todo = iter(range(count))
    helpers = [_threads().submit(_work, job, todo) for _ in range(threads - 1)]
    try:
        failures = [_work(job, todo)]
    finally:
        _drain(todo)
        started = [helper for helper in helpers if not helper.cancel()]
        wait(started)
    failures += [helper.result() for helper in started]
    found = [failure for failure in failures if failure is not None]
    if found:
        raise min(found, key=lambda failure: failure.position).error


def _work(job: Callable[[int], None], todo: Iterator[int]) -> _Failure | None:
    """Take one position after another until none is left, or one fails, which leaves none to the others."""
    for position in todo:
        try:
            job(position)
        except Exception as error:  # noqa: BLE001  raised where the caller waits
            _drain(todo)
            return _Failure(position, error)
    return None


def _drain(todo: Iterator[int]) -> None:
    for _ in todo:
        pass


_executor: ThreadPoolExecutor | None = None
_lock = threading.Lock()


def _threads() -> ThreadPoolExecutor:
    global _executor
    with _lock:
        if _executor is None:
            _executor = ThreadPoolExecutor(MOST_THREADS - 1, thread_name_prefix="diffcore-rows")
        return _executor


def _forget() -> None:
    """A fork has none of its parent's threads, and perhaps a lock that one of them held."""
    global _executor, _lock
    _executor, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
