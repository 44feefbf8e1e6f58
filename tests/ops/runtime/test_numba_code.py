"""Functions on torch's OpenMP threads."""

from __future__ import annotations

import ctypes
import threading

import pytest

from diffcore_gpu.ops.runtime import numba_code


def calls_on(threads: int) -> list[tuple[int, int]]:
    """(thread, argument) of every call of a function that is run on some threads."""
    calls: list[tuple[int, int]] = []
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda argument: calls.append((threading.get_ident(), argument)))
    numba_code.run_on_threads(ctypes.cast(function, ctypes.c_void_p).value, 1234, threads)
    return calls


def test_one_thread_is_this_one() -> None:
    assert calls_on(1) == [(threading.get_ident(), 1234)]


@pytest.mark.skipif(numba_code._gomp_parallel() is None, reason="torch is not built with OpenMP's threads here")
@pytest.mark.parametrize("threads", [2, 5])
def test_it_is_called_once_on_each_thread(threads: int) -> None:
    calls = calls_on(threads)
    assert [argument for _, argument in calls] == [1234] * threads
    identities = {thread for thread, _ in calls}
    assert len(identities) == threads
    assert threading.get_ident() in identities


def test_without_openmp_it_is_called_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba_code, "_gomp_parallel", lambda: None)
    assert calls_on(4) == [(threading.get_ident(), 1234)]
