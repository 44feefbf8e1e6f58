"""Basic blocks of PTX as Python functions of NumPy arrays, one value per lane.

A register is an unsigned integer of its width, a predicate a boolean. What is the same for all lanes may be a scalar:
constants, parameters and what is computed or loaded from them alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import forms_memory, forms_registers  # noqa: F401 (what they register is used)
from .forms import Emitter
from .parsing import Block, Program


def translate(program: Program, block: Block) -> Callable[[list[Any], Any, Any, Any, Any], Any]:
    """The function of a block: (registers by number, index of the active lanes or None for all, lanes, global memory,
    shared memory) → the predicate of its end, or None.
    """  # fmt: skip
    emitter = Emitter(program)
    numbers = {name: k for k, name in enumerate(program.registers)}
    for instruction in block.body:
        emitter.instruction(instruction)
    written = {name for instruction in block.body for name in instruction.writes}
    read = set(block.live_in)
    head, tail = ["def run(R, i, x, M, X, P):"], []
    emitter.space["numbers"] = numbers
    first = [f" {name[1:]} = R[{numbers[name]}]" for name in sorted(read)]
    some = [f"  {name[1:]} = {name[1:]}[i] if {name[1:]}.ndim else {name[1:]}" for name in sorted(read)]
    head += first + ([" if i is not None:", *some] if some else [])
    out = sorted(written & block.live_out)
    if out:
        tail.append(" if i is None:")
        tail += [f"  R[{numbers[name]}] = {name[1:]}" for name in out]
        tail.append(" else:")
        for name in out:
            tail.append(f"  T = np.array(np.broadcast_to(R[{numbers[name]}], x.all)); T[i] = {name[1:]}")
            tail.append(f"  R[{numbers[name]}] = T")
    end = block.end
    tail.append(
        f" return {'None' if end is None or end.guard is None else ('~' if end.negated else '') + end.guard[1:]}"
    )
    source = "\n".join([*head, *(f" {line}" for line in emitter.lines), *tail])
    exec(compile(source, f"<{program.name}>", "exec"), emitter.space)
    return emitter.space["run"]
