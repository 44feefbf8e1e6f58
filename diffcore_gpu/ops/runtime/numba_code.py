"""Functions that numba compiles: found where numba is installed, compiled when they are first needed, kept on disk."""

from __future__ import annotations

import importlib
import importlib.util
import threading
import warnings
from functools import cache
from types import ModuleType
from typing import Any

_compiling = threading.Lock()


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
