"""One writer at a time: a lock that the kernel drops when the process dies."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from diffcore_gpu.errors import StoreError
from diffcore_gpu.store.durable import named_os_errors

try:
    import fcntl
except ImportError:  # as on Windows; reading a store does without
    fcntl = None  # type: ignore[assignment]

LOCK_NAME = "writer.lock"


def require_locks(folder: Path) -> None:
    """Refuse to write where the system has no `flock`.

    Raises:
        StoreError: it has none.
    """
    if fcntl is None:
        raise StoreError(
            f"{folder}: a store can be read on this system, but not written, for Python has no fcntl here; write it on "
            "Linux and copy the folder."
        )


class WriterLock:
    """An exclusive `flock` on a file in the store's folder; the file goes away with the writer.

    Raises:
        StoreError: if another writer holds the lock, or the file cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK_NAME
        self._fd = -1
        while self._fd < 0:
            self._fd = self._try(folder)

    def _try(self, folder: Path) -> int:
        with named_os_errors(self._path, "cannot be locked"):
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The writer before us may have removed the file between our open and our lock: then we hold a lock on
                # a file that no one else will find, and try again.
                if os.fstat(fd).st_ino == self._path.stat().st_ino:
                    return fd
            except BlockingIOError:
                os.close(fd)
                raise StoreError(f"{folder}: another writer is at work in this folder; wait until it ends.") from None
            except FileNotFoundError:
                pass
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)
            return -1

    def release(self) -> None:
        """Remove the file and drop the lock; a second call does nothing."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                self._path.unlink()
            os.close(self._fd)
            self._fd = -1
