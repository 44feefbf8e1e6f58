"""Kernels with one instruction changed, and whether a set of launches notices.

A mutant is noticed where it faults, leaves a byte of any output other than the compiled kernel leaves it, or loads
another number of bytes. Those that
nobody notices are equivalent by a rule (`equivalent`), or for a reason that `REASONS` gives, or a
hole in the tests.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from diffcore_gpu import kernels

from .launching import Launch, check_writes
from .machine import Kernel
from .memory import Fault
from .parsing import Instruction, Program, vector_of

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
    for at_a_time, some in ((None, launches), (1, launches[:3])):
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


# Mutants that no launch can notice, or none that fits a test: (kind, the line of the kernel, why).
REASONS = (
    ("clamp dropped", r"^return tl\.minimum\(tl\.maximum\(\(side \* SIZE\)", "the root of an area is at most 1"),
    ("guard negated", r"^if (tile|program|part) == 0:", "any one program may write plan and counts"),
    ("width", r"tl\.store\(status \+ 3", "a ticket above 65535 needs 16384 programs"),
    ("constant", r"// (STEP|C|W|OUT_W|SIZE|TILES|PROGRAMS)|% (C|STEP|TILES|PROGRAMS)",
     "a multiplier one larger divides the small numbers that occur alike"),
    ("width", r"pair_ptr", "positions above 2^32 need 32 GiB of pairs"),
    ("width", r"AT_NUM_(SAMPLES|ROWS)", "counts above 2^32 need as many samples or rows"),
    ("addend", r"shift_low|product_error|_error = tl\.fma", "an error term below what the output's type resolves"),
    ("choice swapped", r"correction == correction", "an error term below what the output's type resolves"),
    ("comparison", r"^mixed = \(count > 0\) & ", "a count is compared with 0 after the guard of its loads"),
    ("guard dropped", r"tl\.atomic_add\(status", "it adds 0 where there is nothing to count"),
)  # fmt: skip


def equivalent(program: Program, mutant: Mutant) -> str | None:
    """Why a mutant computes the same as the program, by a rule or by `REASONS`; None: it may not."""
    before = mutant.before
    if before.writes and not _readers(program, mutant):
        return "nothing reads the result"
    if mutant.kind == "choice swapped" and before.operands[1] == before.operands[2]:
        return "both choices are one"
    if mutant.kind == "guard negated" and before.parts[0] == "bra" and len(program.blocks[mutant.block].next) < 2:
        return "both ways are one"
    source = source_of(mutant)
    return next((why for kind, line, why in REASONS if kind == mutant.kind and re.search(line, source)), None)
