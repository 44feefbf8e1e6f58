"""A sample of the kernel tests on emulated PTX; ``make test-ptx`` runs them all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not available on this platform")

SAMPLE = [
    "tests/kernels/test_mix.py", "tests/kernels/test_crop_mix.py", "tests/ptx/test_coverage.py",
    "-k", "round_advances or label or index_pass or several_tiles or (mix_plan and bf16 and planar and not crop)",
]  # fmt: skip


@pytest.mark.skipif(os.environ.get("PTX_EMULATED") == "1", reason="All runs on emulated PTX.")
def test_compiled_kernels_run_on_emulated_ptx(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "tests.ptx.plugin", "-p", "no:cacheprovider", "-q", *SAMPLE]
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path / "cache"), "PTX_TARGET": "sm_90", "PTX_APART": "0"}
    environment.pop("PYTEST_ADDOPTS", None)
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "PTX emulated for sm_90" in done.stdout
