"""How an instruction becomes a line of Python, and which opcodes are known.

Each opcode form that is known stands once, in forms_memory.py or forms_registers.py, as a regular expression with the
function that writes its Python; anything else raises `PTXError` with its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from . import arithmetic
from .parsing import SPECIAL, Instruction, Program, PTXError

FORMS: list[tuple[re.Pattern[str], Callable[..., Any]]] = []
_SPACE = {
    **{name: getattr(arithmetic, name) for name in dir(arithmetic) if not name.startswith("_")},
    "np": np, "where": np.where,
    "u1": np.uint8, "u2": np.uint16, "u4": np.uint32, "u8": np.uint64,
    "i1": np.int8, "i2": np.int16, "i4": np.int32, "i8": np.int64, "f2": np.float16, "f4": np.float32, "f8": np.float64,
}  # fmt: skip


def form(pattern: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register what writes the Python of the opcodes that match; groups of the pattern are its arguments."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        FORMS.append((re.compile(pattern), function))
        return function

    return register


def handler_of(opcode: str) -> tuple[Callable[..., Any], tuple[str | None, ...]]:
    """What translates an opcode, and its arguments."""
    for pattern, function in FORMS:
        if match := pattern.fullmatch(opcode):
            return function, match.groups()
    raise PTXError(f"The emulator does not know the opcode {opcode}.")


class Emitter:
    """Writes the Python of one block."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.space: dict[str, Any] = dict(_SPACE)
        self.lines: list[str] = []
        self.mask = "None"
        self.text = ""

    def constant(self, value: Any) -> str:
        """The name of a constant."""
        name = f"K{len(self.space)}"
        self.space[name] = value
        return name

    def value(self, token: str, kind: str, bits: int) -> str:
        """An operand as unsigned (u, b), signed (s) or floating (f) of some bits, or as a predicate (p)."""
        bytes_ = bits // 8
        if token.startswith("%") and token not in SPECIAL:
            have = self.program.registers[token]
            name = token[1:]
            if kind == "p" or have == 1:
                if have != 1 or kind != "p":
                    raise PTXError(f"{self.text}: {token} is not of the type that the opcode names.")
                return name
            if have < bits:
                raise PTXError(f"{self.text}: {token} has {have} bits, and the opcode wants {bits}.")
            name = name if have == bits else f"{name}.astype(u{bytes_})"
            return name if kind in "ub" else f"{name}.view({'i' if kind == 's' else 'f'}{bytes_})"
        if token in SPECIAL:
            return {
                "%tid.x": "x.tid", "%ctaid.x": "x.block", "%laneid": "(x.tid & u4(31))", "%warpid": "(x.tid >> u4(5))",
                "%nctaid.x": "u4(x.grid)", "%ntid.x": "u4(x.threads)",
            }[token]  # fmt: skip
        if kind == "p":
            return self.constant(np.bool_(token not in ("0", "false")))
        if token == "global_smem":
            raw = 0
        elif match := re.fullmatch(r"0[fFdD]([0-9a-fA-F]{8}|[0-9a-fA-F]{16})", token):
            raw = int(match[1], 16)
        else:
            try:
                raw = int(token.rstrip("U"), 0) % 2**bits
            except ValueError:
                raise PTXError(f"{self.text}: the operand {token} is not understood.") from None
        unsigned = np.array(raw, arithmetic.U[bits])
        typed = unsigned.view({"s": arithmetic.S, "f": arithmetic.F}.get(kind, arithmetic.U)[bits])
        return self.constant(typed[()])

    def assign(self, token: str, expression: str) -> None:
        """Write a register, where the guard lets it."""
        if token == "_":
            return
        name = token[1:]
        if self.mask != "None":
            expression = f"where({self.mask}, {expression}, {name})"
        self.lines.append(f"{name} = {expression}")

    def instruction(self, instruction: Instruction) -> None:
        """Write one instruction."""
        self.text = str(instruction)
        guard = instruction.guard
        self.mask = "None" if guard is None else f"~{guard[1:]}" if instruction.negated else guard[1:]
        handler, groups = handler_of(instruction.opcode)
        expression = handler(self, *instruction.operands, groups=groups)
        if expression is not None:
            self.assign(instruction.operands[0], expression)

    def address(self, operand: str) -> tuple[str, int]:
        """The base and the offset of an address operand."""
        match = re.fullmatch(r"\[\s*(%\w+|global_smem)\s*(?:\+\s*(-?\d+))?\s*\]", operand)
        if match is None:
            raise PTXError(f"{self.text}: the address {operand} is not understood.")
        bits = self.program.registers.get(match[1], 32)
        return self.value(match[1], "u", bits), int(match[2] or 0)
