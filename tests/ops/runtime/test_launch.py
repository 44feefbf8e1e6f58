"""A kept launch hands the driver what Triton would have handed it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

pytest.importorskip("triton", reason="Triton is not available on this platform")


@pytest.fixture(scope="module")
def handed() -> dict[str, Any]:
    program = [sys.executable, "-m", "tests.ops.runtime.launches"]
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


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
