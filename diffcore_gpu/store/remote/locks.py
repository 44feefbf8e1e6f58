"""One process at a time at a file of the cache: the system's locks, waited for as long as whoever holds one gets on."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

from diffcore_gpu.errors import StoreError
from diffcore_gpu.store.durable import named_os_errors, open_to_write

_POLL = 0.05


@contextlib.contextmanager
def locked(path: Path, stuck: str, patience: float, progress: Callable[[], int] = lambda: 0) -> Iterator[None]:
    """Hold the system's lock on a file, which is made; the system drops it when the process dies, however it dies.

    Args:
        path: the file; it stays.
        stuck: the beginning of the sentence where waiting was in vain: who has been doing what.
        patience: seconds to wait while `progress` stays the same.
        progress: how far whoever holds the lock is.

    Raises:
        StoreError: the wait was in vain, or the file cannot be made or locked.
    """
    with named_os_errors(path, "cannot be locked"):
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = open_to_write(path)
    try:
        with named_os_errors(path, "cannot be locked"):
            _wait(fd, stuck, patience, progress)
        yield
    finally:
        with contextlib.suppress(OSError):
            # not left to the close: a process that was forked meanwhile has the descriptor too
            filelock.unlock_descriptor(fd)
        os.close(fd)


@contextlib.contextmanager
def locked_if_free(path: Path) -> Iterator[bool]:
    """Hold the lock on a file, which is made in a folder that is there, unless someone else does.

    Yields:
        Whether it is held; False: some process, or another thread of this one, has it.
    """
    with named_os_errors(path, "cannot be locked"):
        fd = open_to_write(path)
    try:
        with named_os_errors(path, "cannot be locked"):
            held = filelock.lock_descriptor(fd, blocking=False)
        yield held
        if held:
            filelock.unlock_descriptor(fd)
    finally:
        os.close(fd)


def _wait(fd: int, stuck: str, patience: float, progress: Callable[[], int]) -> None:
    before, since = progress(), time.monotonic()
    while not filelock.lock_descriptor(fd, blocking=False):
        now = progress()
        if now != before:
            before, since = now, time.monotonic()
        elif time.monotonic() - since > patience:
            raise StoreError(f"{stuck} for {patience:g} s, and nothing changes; end it, or try again later.")
        time.sleep(_POLL)
