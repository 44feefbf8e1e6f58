"""No batch of a training run makes Triton compile a kernel again; no GPU is needed.

What Triton would compile is asked in a process of its own, because kernels that are imported for the interpreter are
never compiled.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.programs import run_python

pytest.importorskip("triton", reason="Triton is not available on this platform")


@pytest.fixture(scope="module")
def keys() -> dict[str, dict[str, Any]]:
    """What each kernel is compiled for, per case of `launch_keys`."""
    return json.loads(run_python("-m", "tests.kernels.launch_keys", TRITON_INTERPRET="0"))


def test_size_and_address_of_a_batch_compile_nothing_anew(keys: dict[str, dict[str, Any]]) -> None:
    for kernel, cases in keys.items():
        for case in ("17", "1", "16 at an odd address", "1 at an odd address"):
            assert cases[case] == cases["16"], (kernel, case)


def test_what_is_compiled_ahead_of_time_is_what_is_launched(keys: dict[str, dict[str, Any]]) -> None:
    for kernel, cases in keys.items():
        launched = [[given, None if given == "constexpr" else value] for given, value in cases["16"]]
        assert launched == cases["ahead of time"], kernel
