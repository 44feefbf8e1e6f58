"""A storage of a given speed: reads by position take as long as they would from it, whoever asks for them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def throttled(bytes_per_second: float) -> Iterator[None]:
    """Inside, `os.pread` and `os.preadv` give no more than so many bytes a second to all threads of this process.

    A read of n bytes occupies the storage for n ÷ rate seconds, after the reads before it; its caller sleeps until
    then. Latency is left out: a storage that has some is slower.
    """
    lock = threading.Lock()
    free = 0.0  # when the storage has served all that was asked of it

    def occupy(count: int) -> None:
        nonlocal free
        with lock:
            now = time.perf_counter()
            free = max(now, free) + count / bytes_per_second
            wait = free - now
        time.sleep(wait)

    def slowed(read: Callable[..., Any], size: Callable[[Any], int]) -> Callable[..., Any]:
        def slow(*arguments: Any) -> Any:
            result = read(*arguments)
            occupy(size(result))
            return result

        return slow

    pread, preadv = os.pread, os.preadv
    os.pread, os.preadv = slowed(pread, len), slowed(preadv, int)
    try:
        yield
    finally:
        os.pread, os.preadv = pread, preadv
