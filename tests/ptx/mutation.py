"""Kernels with one instruction changed, and whether a set of launches notices.

A mutant is noticed where it faults, leaves a byte of any output other than the compiled kernel leaves it, or loads
another number of bytes. One that no launch notices is equivalent if a rule of `equivalent` proves it, and otherwise a
hole, though nobody may be able to fill it: that a clip does nothing to what was drawn inside, no rule here can tell.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from diffcore_gpu import kernels
from diffcore_gpu.kernels import spec

from .launching import Launch, check_writes
from .machine import Kernel
from .memory import Fault
from .parsing import Instruction, Program, vector_of

STEPS = 3000
"""Basic blocks that a mutant runs before it is taken to be in an endless loop; no kernel of a case runs as many."""
_BOUNDS = {"lt": "le", "le": "lt", "gt": "ge", "ge": "gt", "eq": "ne", "ne": "eq"}


@dataclass(frozen=True)
class Mutant:
    """A program with one change: the instruction `position` of a block (−1: its end) is another, or None."""

    kind: str
    block: int
    position: int
    before: Instruction
    after: Instruction | None

    def __str__(self) -> str:
        after = "nothing" if self.after is None else str(self.after).split(": ", 1)[1]
        return f"{self.kind} at {self.before.source}: {self.before} → {after}"


def _immediate(operand: str) -> bool:
    return operand.lstrip("-").isdigit()


def _changes(instruction: Instruction) -> Iterator[tuple[str, Instruction | None]]:
    """Every change of an instruction that is made, with its kind."""
    parts, operands = instruction.parts, instruction.operands
    if instruction.guard is not None:
        yield "guard dropped", replace(instruction, guard=None)
        yield "guard negated", replace(instruction, negated=not instruction.negated)
    name = parts[0]
    if name in ("bar", "barrier") and parts[1] != "warp":  # the lanes of a warp run together here
        yield "barrier removed", None
    if name == "setp" and parts[1] in _BOUNDS:
        yield "comparison", replace(instruction, opcode=".".join([name, _BOUNDS[parts[1]], *parts[2:]]))
    if name in ("fma", "mad"):
        zero = "0f00000000" if parts[-1] == "f32" else "0"
        yield "addend", replace(instruction, operands=(*operands[:3], zero))
    if name in ("mul", "mad") and parts[1] == "hi":
        yield "high product", replace(instruction, opcode=".".join([name, "lo", *parts[2:]]))
    if name in ("min", "max"):
        yield "clamp swapped", replace(instruction, opcode=".".join(["max" if name == "min" else "min", *parts[1:]]))
        bits = parts[-1][1:]
        yield "clamp dropped", replace(instruction, opcode=f"mov.b{bits}", operands=operands[:2])
    if name == "selp":
        yield "choice swapped", replace(instruction, operands=(operands[0], operands[2], operands[1], operands[3]))
    if name in ("ld", "st") and parts[1] in ("global", "shared"):
        at = next(k for k, operand in enumerate(operands) if operand.startswith("["))
        width = int(parts[-1][1:]) // 8
        inner, _, offset = operands[at].strip("[] ").partition("+")
        moved = f"[{inner.strip()}+{int(offset or 0) + width}]"
        yield "offset", replace(instruction, operands=(*operands[:at], moved, *operands[at + 1 :]))
        other = 1 - at if len(operands) == 2 else (0 if name == "ld" else 1)
        vector = vector_of(operands[other])
        if len(vector) > 1:
            swapped = "{" + ", ".join([vector[1], vector[0], *vector[2:]]) + "}"
            yield "vector", replace(instruction, operands=(*operands[:other], swapped, *operands[other + 1 :]))
        elif width > 1:
            yield "width", replace(instruction, opcode=".".join([*parts[:-1], f"b{4 * width}"]))
    if name in ("add", "sub", "and", "or", "xor", "shl", "shr", "mov", "mul", "setp", "bfe") and parts[-1] != "pred":
        for k, operand in enumerate(operands[1:], 1):
            if _immediate(operand) and int(operand) != 0:
                changed = str(int(operand) + 1)
                yield "constant", replace(instruction, operands=(*operands[:k], changed, *operands[k + 1 :]))


def mutants(program: Program) -> Iterator[Mutant]:
    """All mutants of a program."""
    for k, block in enumerate(program.blocks):
        for position, instruction in [*enumerate(block.body), (-1, block.end)]:
            if instruction is not None:
                for kind, after in _changes(instruction):
                    yield Mutant(kind, k, position, instruction, after)


def sample(program: Program, count: int, seed: int) -> list[Mutant]:
    """Some mutants, of every kind equally many where there are enough."""
    rng = random.Random(seed)
    kinds: dict[str, list[Mutant]] = {}
    for mutant in mutants(program):
        kinds.setdefault(mutant.kind, []).append(mutant)
    for found in kinds.values():
        rng.shuffle(found)
    chosen: list[Mutant] = []
    while len(chosen) < count and any(kinds.values()):
        for found in kinds.values():
            if found and len(chosen) < count:
                chosen.append(found.pop())
    return chosen


def noticed(kernel: Kernel, mutant: Mutant, launches: list[Launch]) -> str | None:
    """By what some launch notices a mutant; None: no launch does.

    Blocks run together first, and one after another where that shows nothing: only then does one see another's writes.
    """
    changed = kernel.changed(kernel.program.with_instruction(mutant.block, mutant.position, mutant.after))
    changed.steps = STEPS
    for at_a_time, some in ((None, launches), (1, launches[:1])):
        for launch in some:
            if found := _difference(changed, launch, at_a_time):
                return found
    return None


def _difference(changed: Kernel, launch: Launch, at_a_time: int | None) -> str | None:
    memory = launch.memory.copy()
    try:
        changed.launch(launch.grid, launch.arguments, memory, apart=at_a_time is not None, at_a_time=at_a_time)
        for address, content, times in launch.outputs:
            check_writes(memory, address, content.size, times, "", ["an output"])
            if not np.array_equal(memory.content(address, content.size), content):
                return "another result"
    except Fault as fault:
        return str(fault)
    return None if memory.loaded == launch.loaded else "another number of bytes"


def source_of(mutant: Mutant) -> str:
    """The line of the kernel that a mutant's instruction comes from; empty where the compiler does not say."""
    name, _, line = mutant.before.source.partition(":")
    path = Path(kernels.__file__).parent / name
    return path.read_text().split("\n")[int(line) - 1].strip() if path.exists() and line != "0" else ""


def _readers(program: Program, mutant: Mutant) -> list[Instruction]:
    """The instructions that may read what the mutated one writes."""
    written = set(mutant.before.writes)
    return [i for b in program.blocks for i in [*b.body, *([b.end] if b.end else [])] if written & set(i.reads)]


DIVIDENDS = 2**24
"""More than any dividend: programs of a launch, values of a sample, and less."""


def _same_quotients(program: Program, mutant: Mutant) -> bool:
    """Is the instruction a division by multiplication, of whose quotients none changes below `DIVIDENDS`?"""
    before, after = mutant.before, mutant.after
    if not re.search(r"//|%", source_of(mutant)) or before.parts[:2] != ["mul", "hi"] or before.parts[2][1:] != "32":
        return False
    if not _immediate(before.operands[2]):
        return False
    readers = _readers(program, mutant)
    shifts = {int(r.operands[2]) if r.parts[0] == "shr" and _immediate(r.operands[2]) else 0 for r in readers}
    multipliers = [int(i.operands[2]) % 2**32 for i in (before, after)]
    if before.parts[2] == "s32" and max(multipliers) >= 2**31:
        return False
    dividends = np.arange(DIVIDENDS, dtype=np.uint64)
    old, new = (dividends * np.uint64(m) >> np.uint64(32 + min(shifts)) for m in multipliers)
    return bool((old == new).all())


def _side_is_within(mutant: Mutant) -> bool:
    """Is it the upper clamp of a box's side, which no root of an area of at most 2²⁴ reaches? Roots are monotone."""
    before, size = mutant.before, mutant.before.operands[-1]
    if source_of(mutant) != "return tl.minimum(tl.maximum((side * SIZE).to(tl.int32), 1), SIZE)":
        return False
    root = np.sqrt(np.float32(2**spec.GRID_BITS)) * np.float32(2.0 ** (-spec.GRID_BITS // 2))
    return before.parts[0] == "min" and _immediate(size) and int(root * np.float32(int(size))) <= int(size)


def _known_all_the_same(mutant: Mutant) -> bool:
    """Does it take index −1 for a sample? Its lower bits are a number that no list of pairs in any memory reaches."""
    if source_of(mutant) != "known = (index >= 0) & (number < num_samples)" or mutant.before.operands[2] != "-1":
        return False
    return mutant.before.parts[1] == "gt" and 8 * (-1 & (2**spec.SAMPLE_BITS - 1)) >= 2**42


def _same_at_the_bound(mutant: Mutant) -> bool:
    """Is it the choice between rest / bound and 1, which are one at the bound?"""
    bound = mutant.before.operands[-1]
    if source_of(mutant) != "a = tl.where(rest < 2 * OUT, rest.to(tl.float32) * (1.0 / (2 * OUT)), 1.0)":
        return False
    return _immediate(bound) and np.float32(int(bound)) * np.float32(1.0 / int(bound)) == 1


def _always(program: Program, guard: str) -> bool:
    """Is a predicate written once, as true?"""
    writers = [i for block in program.blocks for i in block.body if guard in i.writes]
    return len(writers) == 1 and writers[0].opcode == "mov.pred" and writers[0].operands[1] == "-1"


def equivalent(program: Program, mutant: Mutant) -> str | None:
    """Why a mutant computes the same as the program, where a rule proves it; None: it may not."""
    before, kind = mutant.before, mutant.kind
    if before.writes and not _readers(program, mutant):
        return "nothing reads the result"
    if kind == "choice swapped" and before.operands[1] == before.operands[2]:
        return "both choices are one"
    if kind == "guard negated" and before.parts[0] == "bra" and len(program.blocks[mutant.block].next) < 2:
        return "both ways are one"
    if kind == "guard dropped" and not before.negated and _always(program, before.guard):
        return "the guard is always true"
    if kind == "constant" and _same_quotients(program, mutant):
        return "no quotient changes"
    if kind == "clamp dropped" and _side_is_within(mutant):
        return "no side is above the clamp"
    if kind == "comparison" and _known_all_the_same(mutant):
        return "no list of pairs is so long"
    if kind == "comparison" and _same_at_the_bound(mutant):
        return "both choices are one at the bound"
    return None
