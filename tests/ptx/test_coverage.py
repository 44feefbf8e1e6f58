"""Every kernel runs through its compiled code: nearly all basic blocks that can be reached are.

The emulator knows every opcode of a compiled kernel, also in blocks that no launch reaches.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.ptx.cases import Case, cases
from tests.ptx.forms import handler_of
from tests.ptx.launching import Emulator
from tests.ptx.parsing import Program

pytestmark = pytest.mark.ptx


def reachable(program: Program) -> set[int]:
    """The blocks to which a way leads from the first; a block behind a branch that is always taken is not."""
    found, ahead = set(), [0]
    while ahead:
        block = ahead.pop()
        if block not in found:
            found.add(block)
            ahead += program.blocks[block].next
    return found


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in cases()])
def test_nearly_every_basic_block_runs(case: Case, emulator: Emulator) -> None:
    before = {key: kernel.executed.copy() for key, kernel in emulator.kernels.items()}
    with emulator.recording() as launches:
        case.run()
    for key in {launch.key for launch in launches}:
        kernel = emulator.kernels[key]
        ran = set(np.flatnonzero(kernel.executed - before.get(key, 0)).tolist())
        can = reachable(kernel.program)
        for block in kernel.program.blocks:  # those too that did not run, hence are not translated
            for instruction in block.body:
                handler_of(instruction.opcode)
        missed = [kernel.program.blocks[k] for k in sorted(can - ran)]
        assert len(ran) >= 0.9 * len(can), [str(instruction) for block in missed for instruction in block.body[:3]]
