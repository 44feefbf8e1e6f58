"""A kept launch hands the driver what Triton would have handed it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.programs import run_python

pytest.importorskip("triton", reason="Triton is not available on this platform")


@pytest.fixture(scope="module")
def handed() -> dict[str, Any]:
    return json.loads(run_python("-m", "tests.ops.runtime.launches", TRITON_INTERPRET="0"))


@pytest.mark.parametrize("case", ["mix", "mix with labels, in place", "crop_mix"])
def test_a_kept_launch_is_the_launch(handed: dict[str, Any], case: str) -> None:
    seen = handed[case]
    assert seen["again"][0] == seen["first"][0]
    assert seen["moved"][0] == seen["by Triton"][0]
    # A plan that is not written may lie anywhere: the last of eight arguments.
    assert seen["again"][1][:7] == seen["first"][1][:7]
    assert seen["moved"][1][:7] == seen["by Triton"][1][:7]
    assert seen["moved"][1][0] != seen["again"][1][0]
    assert all(address is not None for address in seen["moved"][1][:8])
    assert len(seen["moved"][1]) == len(seen["by Triton"][1])
