"""Work that several processes share, such as compiling kernels, so that a GPU does not wait for one processor."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def shared(work: Callable[[T], R], parts: Sequence[T], processes: int) -> list[R]:
    """What `work` returns for each part, in order.

    Args:
        work: a function of a module.
        parts: what it takes; they and the results are pickled.
        processes: how many; 1: all is done here.

    Raises:
        What `work` raises first.
    """
    if processes == 1 or len(parts) < 2:
        return [work(part) for part in parts]
    with ProcessPoolExecutor(min(processes, len(parts)), multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(work, parts))
