"""PTX text as instructions in basic blocks, with what each block reads and writes.

Only what Triton emits is understood: one entry per module, one-dimensional blocks, no calls, registers of 1 to 64 bits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

SPECIAL = ("%tid.x", "%ctaid.x", "%nctaid.x", "%ntid.x", "%laneid", "%warpid")
ENDS = ("bra", "ret", "bar", "barrier", "exit")  # what closes a basic block
_REGISTER = re.compile(r"%[a-z]+\d+")
_WITHOUT_RESULT = ("st", "red", "bra", "ret", "bar", "barrier", "exit", "stmatrix", "fence", "membar", "prefetch")


class PTXError(Exception):
    """PTX that the emulator does not know."""


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        opcode: with its modifiers, such as ``ld.global.v4.b32``.
        operands: as written, a vector in braces and an address in brackets being one each.
        guard: the predicate register in front of it, or None.
        negated: it runs where the guard is false.
        line: its line in the PTX, from 1.
        source: the file and line of the kernel that it comes from, such as ``plan.py:80``.
    """

    opcode: str
    operands: tuple[str, ...]
    guard: str | None = None
    negated: bool = False
    line: int = 0
    source: str = ""

    def __str__(self) -> str:
        guard = "" if self.guard is None else f"@{'!' * self.negated}{self.guard} "
        return f"line {self.line}: {guard}{self.opcode} {', '.join(self.operands)}"

    @property
    def parts(self) -> list[str]:
        """The opcode and its modifiers, ``::`` kept within a modifier."""
        return self.opcode.split(".")

    @property
    def writes(self) -> tuple[str, ...]:
        """The registers that it writes, where its guard lets it."""
        if self.parts[0] in _WITHOUT_RESULT or not self.operands:
            return ()
        return tuple(_REGISTER.findall(self.operands[0]))

    @property
    def reads(self) -> tuple[str, ...]:
        """The registers that it reads; a guarded instruction keeps, hence reads, what it may not write."""
        sources = self.operands if self.parts[0] in _WITHOUT_RESULT else self.operands[1:]
        found = [name for operand in sources for name in _REGISTER.findall(operand)]
        if self.guard is not None:
            found += [self.guard, *self.writes]
        return tuple(found)


@dataclass
class Block:
    """Instructions without a branch, a barrier or a label between them, and what ends them (None: it falls through)."""

    body: list[Instruction]
    end: Instruction | None = None
    next: tuple[int, ...] = ()
    live_in: frozenset[str] = frozenset()
    live_out: frozenset[str] = frozenset()


@dataclass
class Program:
    """One kernel.

    Attributes:
        name: of the entry.
        parameters: bits of each parameter.
        threads: of a block.
        registers: bits of every register, 1 for predicates.
        labels: the basic block that each label begins.
        blocks: the basic blocks in order.
    """

    name: str
    parameters: dict[str, int]
    threads: int
    registers: dict[str, int]
    labels: dict[str, int]
    blocks: list[Block] = field(default_factory=list)

    def target(self, end: Instruction) -> int:
        """The basic block that a branch leads to."""
        return self.labels[end.operands[0]]

    def with_instruction(self, block: int, position: int, changed: Instruction | None) -> Program:
        """The same program with one instruction in place of another, or without it; position −1 is a block's end."""
        old = self.blocks[block]
        if position < 0:
            new = Block(old.body, changed)
        else:
            body = [*old.body[:position], *([] if changed is None else [changed]), *old.body[position + 1 :]]
            new = Block(body, old.end)
        blocks = [new if k == block else Block(b.body, b.end) for k, b in enumerate(self.blocks)]
        return _connect(replace(self, blocks=blocks))


def operands_of(text: str) -> tuple[str, ...]:
    """An operand list in its parts."""
    return tuple(part.strip() for part in re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,\s\[{][^,]*", text))


def vector_of(operand: str) -> list[str]:
    """The registers of a vector operand; a scalar is a vector of one."""
    return [part.strip() for part in operand.strip("{} ").split(",")]


def _statements(text: str) -> list[tuple[int, str, str]]:
    """(line, statement or label with its colon, source) of a kernel's body; comments and directives are left out."""
    found: list[tuple[int, str, str]] = []
    pending = source = ""
    for number, line in enumerate(text.split("\n"), 1):
        if match := re.match(r"\s*\.loc\s.*// ([\w.]+:\d+)", line):
            source = match[1]
        line = line.split("//")[0].strip()
        if not pending and (line.startswith((".loc", ".file", ".section", ".pragma", ".reg")) or not line):
            continue
        pending += " " + line
        while match := re.match(r"\s*(?:(\$?\w+:)(?!:)|([^;]*);)", pending):
            statement = " ".join((match[1] or match[2]).split())
            if statement:
                found.append((number, statement, source))
            pending = pending[match.end() :]
        pending = pending.strip()
    if pending:
        raise PTXError(f"This statement of the PTX does not end: {pending}")
    return found


def _instruction(statement: str, line: int, source: str) -> Instruction:
    match = re.match(r"(?:@(!?)(%p\d+)\s+)?([a-z][\w.:]*)\s*(.*)$", statement)
    if match is None:
        raise PTXError(f"This statement of the PTX is not understood: {statement}")
    # Without a cluster of blocks, “the shared memory of this block” is “the shared memory” (PTX ISA, state spaces).
    opcode = match[3].replace("shared::cta", "shared")
    return Instruction(opcode, operands_of(match[4]), match[2], bool(match[1]), line, source)


def parse(ptx: str) -> Program:
    """The program of a PTX module with one kernel."""
    entry = re.search(r"\.entry\s+(\w+)\s*\(([^)]*)\)([^{]*)\{", ptx)
    if entry is None:
        raise PTXError("There is no kernel in this PTX.")
    bits = {
        name: int(width) for width, name in re.findall(r"\.param \.[ubsf](\d+)[^,\n]*?(\w+)\s*(?:,|$|\n)", entry[2])
    }
    threads = re.search(r"\.(?:reqntid|maxntid) (\d+)", entry[3])
    if threads is None:
        raise PTXError("This PTX does not say how many threads a block has.")
    end = re.compile(r"^\}", re.MULTILINE).search(ptx, entry.end())
    body = "\n" * ptx.count("\n", 0, entry.end()) + ptx[entry.end() : end.start()]
    registers = {}
    for kind, prefix, count in re.findall(r"\.reg \.(\w+)\s+(%[a-z]+)<(\d+)>", body):
        width = 1 if kind == "pred" else int(kind[1:])
        registers.update({f"{prefix}{k}": width for k in range(int(count))})
    statements = _statements(body)
    targets = {match[1] for _, s, _ in statements if (match := re.search(r"\bbra(?:\.uni)? +(\$?\w+)", s))}
    program = Program(entry[1], bits, int(threads[1]), registers, {})
    current: list[Instruction] = []
    for line, statement, source in statements:
        if statement.endswith(":"):
            if statement[:-1] in targets:
                if current:
                    program.blocks.append(Block(current))
                    current = []
                program.labels[statement[:-1]] = len(program.blocks)
            continue
        instruction = _instruction(statement, line, source)
        if instruction.parts[0] in ENDS and instruction.parts[1:2] != ["warp"]:
            program.blocks.append(Block(current, instruction))
            current = []
        else:
            current.append(instruction)
    if current or len(program.blocks) in program.labels.values():
        raise PTXError(f"{program.name} does not end with ret.")
    return _connect(program)


def _connect(program: Program) -> Program:
    """Fill in the successors and the live registers of every block."""
    gen, kill = [], []
    for k, block in enumerate(program.blocks):
        name = None if block.end is None else block.end.parts[0]
        follows = () if k + 1 == len(program.blocks) else (k + 1,)
        if name == "bra":
            at = program.target(block.end)
            block.next = (at,) if block.end.guard is None else tuple(sorted({at, *follows}))
        elif name in ("ret", "exit"):
            block.next = () if block.end.guard is None else follows
        else:
            block.next = follows
        read: set[str] = set()
        written: set[str] = set()
        for instruction in [*block.body, *([block.end] if block.end else [])]:
            read.update(name for name in instruction.reads if name not in written)
            written.update(instruction.writes)
        gen.append(frozenset(read))
        kill.append(frozenset(written))
        block.live_in = block.live_out = frozenset()
    changed = True
    while changed:
        changed = False
        for k in reversed(range(len(program.blocks))):
            block = program.blocks[k]
            out = frozenset().union(*(program.blocks[n].live_in for n in block.next))
            live = gen[k] | (out - kill[k])
            changed |= live != block.live_in
            block.live_in, block.live_out = live, out
    return program
