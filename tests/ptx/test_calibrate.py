"""What is compared with a GPU is at least assembled, and runs on the emulator."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.ptx.calibrate import Form, differences, emulated, forms, operands_for, ptx_of

FORMS = list(forms())


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.opcode} {len(form.sources)}")
def test_every_form_runs_on_the_emulator(form: Form) -> None:
    operands = operands_for(form, np.random.default_rng(0))
    found = emulated(form, operands)
    assert differences(form, found, found).size == 0
    assert (found >> np.uint64(form.result - 1) >> np.uint64(1) == 0).all()


def test_every_form_is_assembled(tmp_path: Path) -> None:
    triton = pytest.importorskip("triton", reason="Triton, which brings ptxas, is not available on this platform")
    ptxas = Path(triton.__file__).parent / "backends/nvidia/bin/ptxas"
    for k, form in enumerate(FORMS):
        if "f32x2" in form.opcode:  # of sm_100, which has an assembler of its own
            continue
        (tmp_path / f"{k}.ptx").write_text(ptx_of(form, "sm_90"))
        command = [ptxas, "-O0", "-arch=sm_90", tmp_path / f"{k}.ptx", "-o", tmp_path / "out.cubin"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (form, done.stdout + done.stderr)
