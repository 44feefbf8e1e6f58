"""Functions that numba compiles: found where numba is installed, kept on disk, run on the threads of torch's operators.

torch starts its threads through `GOMP_parallel`, the entry of GNU OpenMP that compiled code calls, which LLVM's OpenMP
has too on Linux. A second pool of threads would compete with these, which wait for the next operator in a loop.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import threading
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

_compiling = threading.Lock()

_PIECES_PER_THREAD = 4
"""At the least: the more, the sooner all threads end."""


@cache
def numba_module(name: str) -> ModuleType | None:
    """A module that imports numba; None without numba, or with one that cannot be imported, which is said."""
    if importlib.util.find_spec("numba") is None:
        return None
    try:
        return importlib.import_module(name)
    except ImportError as error:  # numba refuses a NumPy that is newer than it knows
        warnings.warn(f"numba cannot be imported, so images on the CPU are mixed more slowly: {error}", stacklevel=2)
        return None


@cache
def compiled(module: str, name: str) -> Any:
    """A function of such a module, ``void(void *)`` with an `address`.

    The first call on a machine compiles it, for some seconds.
    """
    from numba import cfunc

    source = getattr(numba_module(module), name)
    with _compiling:
        try:
            return cfunc("void(voidptr)", cache=True)(source)
        except RuntimeError:  # there is no folder to keep it in: compiled anew in each process
            return cfunc("void(voidptr)")(source)


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


def division(images: torch.Tensor, values_per_thread: int) -> tuple[int, int]:
    """How many threads make images [B, C, H, W], and the lines of an image that are one piece of work.

    A piece is a whole image where there are enough of them: the longer a run through memory, the faster.

    Args:
        images: of which each value takes about the same time.
        values_per_thread: how many are worth waking another thread.
    """
    batch, _, height, _ = images.shape
    threads = min(torch.get_num_threads(), 1 + images.numel() // values_per_thread)
    pieces = threads * _PIECES_PER_THREAD
    return threads, max(1, height * batch // pieces) if threads > 1 and batch < pieces else max(1, height)


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
