"""The threads that torch's own CPU operators run on, for compiled functions that are not torch's.

torch starts them through `GOMP_parallel`, the entry of GNU OpenMP that compiled code calls, which LLVM's OpenMP has too
on Linux. A second pool of threads would compete with these, which wait for the next operator in a loop.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch


@cache
def _gomp_parallel() -> Callable[[int, int, int, int], None] | None:
    """`GOMP_parallel` as torch itself finds it, or None where torch is built with other threads."""
    try:
        found = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")).GOMP_parallel
    except (OSError, AttributeError):
        return None
    found.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    found.restype = None
    return found


@cache
def _callable(function: int) -> Callable[[int], None]:
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(function)


def run_on_threads(function: int, argument: int, threads: int) -> None:
    """Call a compiled ``void function(void *)`` on some threads at the same time, once on each, and wait for them all.

    Where torch has no such threads (it is built without OpenMP, or on macOS) it is called once, on this one. So what
    is run must share its work by taking piece after piece until none is left. Python's lock is released meanwhile.

    Args:
        function: its address.
        argument: the address that it gets.
        threads: how many; 1: this one.
    """
    parallel = _gomp_parallel() if threads > 1 else None
    if parallel is None:
        _callable(function)(argument)
    else:
        parallel(function, argument, threads, 0)
