"""The forms of opcodes that compute a lane's registers from its registers."""

from __future__ import annotations

import numpy as np

from . import arithmetic
from .forms import form
from .parsing import PTXError, vector_of

_COMPARE = {
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "lo": "<",
    "ls": "<=",
    "hi": ">",
    "hs": ">=",
}
_LOGIC = {"and": "&", "or": "|", "xor": "^"}
_SIGN = {"add": "+", "sub": "-", "mul": "*"}


# Moves.


@form(r"mov\.pred")
def _move_predicate(e, target, source, groups):
    return e.value(source, "p", 1)


@form(r"mov\.[ubsf](\d+)")
def _move(e, target, source, groups):
    bits = int(groups[0])
    if target.startswith("{"):
        parts = vector_of(target)
        width = bits // len(parts)
        e.lines.append(f"T = {e.value(source, 'b', bits)}")
        for k, part in enumerate(parts):
            e.assign(part, f"(T >> {e.constant(arithmetic.U[bits](width * k))}).astype(u{width // 8})")
        return None
    if source.startswith("{"):
        parts = vector_of(source)
        width = bits // len(parts)
        return " | ".join(
            f"({e.value(part, 'b', width)}.astype(u{bits // 8}) << {e.constant(arithmetic.U[bits](width * k))})"
            for k, part in enumerate(parts)
        )
    return e.value(source, "b", bits)


@form(r"selp\.[ubsf](\d+)")
def _select(e, target, a, b, predicate, groups):
    bits = int(groups[0])
    return f"where({e.value(predicate, 'p', 1)}, {e.value(a, 'b', bits)}, {e.value(b, 'b', bits)})"


@form(r"prmt\.b32")
def _permute(e, target, a, b, selector, groups):
    first, second = e.value(a, "b", 32), e.value(b, "b", 32)
    if selector.startswith("%") or any(int(selector.rstrip("U"), 0) >> 4 * k & 8 for k in range(4)):
        return f"permute({first}, {second}, {e.value(selector, 'b', 32)})"
    # The bytes of one operand that move equally far move together.
    moves: dict[tuple[str, int], int] = {}
    for k in range(4):
        at = int(selector.rstrip("U"), 0) >> 4 * k & 7
        key = (second if at > 3 else first, 8 * (k - at % 4))
        moves[key] = moves.get(key, 0) | 0xFF << 8 * k
    terms = []
    for (operand, left), mask in moves.items():
        by = e.constant(np.uint32(abs(left)))
        moved = operand if left == 0 else f"({operand} << {by})" if left > 0 else f"({operand} >> {by})"
        terms.append(moved if mask == 0xFFFFFFFF else f"({moved} & {e.constant(np.uint32(mask))})")
    return " | ".join(terms)


# Integers.


@form(r"(add|sub)\.[usb](16|32|64)")
def _add(e, target, a, b, groups):
    name, bits = groups[0], int(groups[1])
    return f"{e.value(a, 'u', bits)} {_SIGN[name]} {e.value(b, 'u', bits)}"


@form(r"(add)\.[us]16x2")
def _add_words(e, target, a, b, groups):
    first, second = (f"halves({e.value(x, 'u', 32)}, x.n)" for x in (a, b))
    return f"({first} {_SIGN[groups[0]]} {second}).view(u4)"


def _product(e, mode, kind, bits, a, b):
    if mode == "lo":
        return f"{e.value(a, 'u', bits)} * {e.value(b, 'u', bits)}"
    if mode == "hi" and bits == 64:
        return f"high_{kind}64({e.value(a, 'u', 64)}, {e.value(b, 'u', 64)})"
    letter, wide = ("i" if kind == "s" else "u"), bits // 4
    product = f"{e.value(a, kind, bits)}.astype({letter}{wide}) * {e.value(b, kind, bits)}.astype({letter}{wide})"
    if mode == "wide":
        return f"({product}).view(u{wide})"
    return f"(({product}) >> {letter}{wide}({bits})).view(u{wide}).astype(u{bits // 8})"


@form(r"mul\.(lo|hi|wide)\.([us])(16|32|64)")
def _multiply(e, target, a, b, groups):
    mode, kind, bits = groups
    return _product(e, mode, kind, int(bits), a, b)


@form(r"mad\.(lo|hi|wide)\.([us])(16|32|64)")
def _multiply_add(e, target, a, b, c, groups):
    mode, kind, bits = groups[0], groups[1], int(groups[2])
    return f"({_product(e, mode, kind, bits, a, b)}) + {e.value(c, 'u', 2 * bits if mode == 'wide' else bits)}"


@form(r"(div|rem)\.([us])(16|32|64)")
def _divide(e, target, a, b, groups):
    name, kind, bits = groups[0], groups[1], int(groups[2])
    if b.startswith("%") or int(b, 0) == 0 or kind == "s":
        raise PTXError(f"{e.text}: only unsigned division by a constant is known.")
    return f"{e.value(a, kind, bits)} {'//' if name == 'div' else '%'} {e.value(b, kind, bits)}"


@form(r"neg\.s(16|32|64)")
def _negate(e, target, a, groups):
    return f"(~{e.value(a, 'u', int(groups[0]))}) + u{int(groups[0]) // 8}(1)"


@form(r"abs\.s(16|32|64)")
def _magnitude(e, target, a, groups):
    bits = int(groups[0])
    return f"np.abs({e.value(a, 's', bits)}).view(u{bits // 8})"


@form(r"(min|max)\.([us])(16|32|64)")
def _least(e, target, a, b, groups):
    name, kind, bits = groups[0], groups[1], int(groups[2])
    return f"np.{name}imum({e.value(a, kind, bits)}, {e.value(b, kind, bits)}).view(u{bits // 8})"


@form(r"(and|or|xor)\.(pred|b16|b32|b64)")
def _bitwise(e, target, a, b, groups):
    kind, bits = ("p", 1) if groups[1] == "pred" else ("b", int(groups[1][1:]))
    return f"{e.value(a, kind, bits)} {_LOGIC[groups[0]]} {e.value(b, kind, bits)}"


@form(r"not\.(pred|b16|b32|b64)")
def _complement(e, target, a, groups):
    kind, bits = ("p", 1) if groups[0] == "pred" else ("b", int(groups[0][1:]))
    return f"~{e.value(a, kind, bits)}"


@form(r"lop3\.b32")
def _lut(e, target, a, b, c, table, groups):
    return f"lut({', '.join(e.value(v, 'b', 32) for v in (a, b, c))}, {int(table, 0)})"


@form(r"(shl|shr)\.([usb])(16|32|64)")
def _shift(e, target, a, count, groups):
    name, signed, bits = groups[0], groups[1] == "s", int(groups[2])
    if count.startswith("%"):
        return f"shift({e.value(a, 'u', bits)}, {e.value(count, 'u', 32)}, {bits}, {name == 'shl'}, {signed})"
    by = int(count, 0)
    if signed:
        return f"({e.value(a, 's', bits)} >> i{bits // 8}({min(by, bits - 1)})).view(u{bits // 8})"
    if by >= bits:
        return e.constant(arithmetic.U[bits](0))
    return f"{e.value(a, 'u', bits)} {'<<' if name == 'shl' else '>>'} {e.constant(arithmetic.U[bits](by))}"


@form(r"shf\.([lr])\.(wrap|clamp)\.b32")
def _funnel(e, target, low, high, count, groups):
    values = ", ".join(e.value(v, "b", 32) for v in (low, high, count))
    return f"funnel({values}, {groups[0] == 'l'}, {groups[1] == 'wrap'})"


@form(r"bfe\.([us])(32|64)")
def _extract(e, target, a, position, length, groups):
    bits = int(groups[1])
    at, many = e.value(position, "u", 32), e.value(length, "u", 32)
    if not position.startswith("%") and not length.startswith("%") and groups[0] == "u":
        at, many = int(position, 0) & 255, int(length, 0) & 255
        if at < bits:
            kind = arithmetic.U[bits]
            mask = e.constant(kind(2 ** min(many, bits) - 1))
            return f"({e.value(a, 'u', bits)} >> {e.constant(kind(at))}) & {mask}"
        at, many = e.value(position, "u", 32), e.value(length, "u", 32)
    return f"extract({e.value(a, 'u', bits)}, {at}, {many}, {bits}, {groups[0] == 's'})"


@form(r"dp4a\.([us])32\.([us])32")
def _dot(e, target, a, b, c, groups):
    values = ", ".join(e.value(v, "b", 32) for v in (a, b, c))
    return f"dot_bytes({values}, {groups[0] == 's'}, {groups[1] == 's'})"


# Floating point. Without .rn, ptxas may contract a product and a sum, and nobody could say what is computed.


@form(r"(add|sub|mul)\.rn\.f32")
def _float(e, target, a, b, groups):
    return f"({e.value(a, 'f', 32)} {_SIGN[groups[0]]} {e.value(b, 'f', 32)}).view(u4)"


@form(r"fma\.rn\.f32")
def _fma(e, target, a, b, c, groups):
    return f"fma({', '.join(e.value(v, 'f', 32) for v in (a, b, c))}).view(u4)"


@form(r"(add|sub|mul)\.rn\.f32x2")
def _float_pair(e, target, a, b, groups):
    first, second = (f"pairs({e.value(v, 'b', 64)}, x.n)" for v in (a, b))
    return f"({first} {_SIGN[groups[0]]} {second}).view(u8)"


@form(r"fma\.rn\.f32x2")
def _fma_pair(e, target, a, b, c, groups):
    return f"fma({', '.join(f'pairs({e.value(v, chr(98), 64)}, x.n)' for v in (a, b, c))}).view(u8)"


@form(r"div\.(?:full|rn)\.f32")
def _float_divide(e, target, a, b, groups):
    return f"({e.value(a, 'f', 32)} / {e.value(b, 'f', 32)}).view(u4)"


@form(r"rcp\.(?:rn|approx)\.f32")
def _reciprocal(e, target, a, groups):
    return f"(f4(1) / {e.value(a, 'f', 32)}).view(u4)"


@form(r"sqrt\.rn\.f32")
def _root(e, target, a, groups):
    return f"np.sqrt({e.value(a, 'f', 32)}).view(u4)"


@form(r"(neg|abs)\.f32")
def _float_sign(e, target, a, groups):
    source = e.value(a, "b", 32)
    return f"{source} ^ u4(0x80000000)" if groups[0] == "neg" else f"{source} & u4(0x7FFFFFFF)"


@form(r"(min|max)\.f32")
def _float_least(e, target, a, b, groups):
    return f"{groups[0]}imum({e.value(a, 'f', 32)}, {e.value(b, 'f', 32)}).view(u4)"


# Comparisons.


@form(r"setp\.(eq|ne|lt|le|gt|ge|lo|ls|hi|hs)(?:\.(and|or|xor))?\.([usb])(16|32|64)")
def _compare(e, target, a, b, other=None, groups=()):
    compare, logic, kind, bits = groups
    expression = f"{e.value(a, kind, int(bits))} {_COMPARE[compare]} {e.value(b, kind, int(bits))}"
    return expression if logic is None else f"({expression}) {_LOGIC[logic]} {_predicate(e, other)}"


def _predicate(e, token):
    return f"~{e.value(token[1:], 'p', 1)}" if token.startswith("!") else e.value(token, "p", 1)


@form(r"setp\.(eq|ne|lt|le|gt|ge)(u?)(?:\.(and|or|xor))?\.f32")
def _float_compare(e, target, a, b, other=None, groups=()):
    compare, unordered, logic = groups
    first, second = e.value(a, "f", 32), e.value(b, "f", 32)
    expression = f"({first} {_COMPARE[compare]} {second})"
    if unordered:
        expression += f" | np.isnan({first}) | np.isnan({second})"
    elif compare == "ne":
        expression += f" & ~(np.isnan({first}) | np.isnan({second}))"
    return expression if logic is None else f"({expression}) {_LOGIC[logic]} {_predicate(e, other)}"


@form(r"setp\.(num|nan)\.f32")
def _ordered(e, target, a, b, groups):
    expression = f"np.isnan({e.value(a, 'f', 32)}) | np.isnan({e.value(b, 'f', 32)})"
    return expression if groups[0] == "nan" else f"~({expression})"


# Conversions.


@form(r"cvt\.([us])(8|16|32|64)\.([us])(8|16|32|64)")
def _convert_integer(e, target, a, groups):
    to, width, of, bits = groups[0], int(groups[1]), groups[2], int(groups[3])
    letter = {"s": "i", "u": "u"}
    expression = f"{e.value(a, of, bits)}.astype({letter[of]}{width // 8})"
    have = e.program.registers[target]
    if have > width:
        return f"{expression}.view({letter[to]}{width // 8}).astype({letter[to]}{have // 8}).view(u{have // 8})"
    return f"{expression}.view(u{width // 8})"


@form(r"cvt\.rn\.f32\.([us])(8|16|32|64)")
def _integer_to_float(e, target, a, groups):
    return f"{e.value(a, groups[0], int(groups[1]))}.astype(f4).view(u4)"


@form(r"cvt\.(rzi|rni|rmi|rpi)\.([us])(16|32|64)\.f32")
def _float_to_integer(e, target, a, groups):
    rounding, kind, bits = groups[0], groups[1], int(groups[2])
    name = {"rzi": "trunc", "rni": "rint", "rmi": "floor", "rpi": "ceil"}[rounding]
    letter = "i" if kind == "s" else "u"
    return f"to_integer({e.value(a, 'f', 32)}, {letter}{bits // 8}, np.{name}).view(u{bits // 8})"


@form(r"cvt\.(rzi|rni|rmi|rpi)(\.ftz)?\.f32\.f32")
def _round(e, target, a, groups):
    name = {"rzi": "trunc", "rni": "rint", "rmi": "floor", "rpi": "ceil"}[groups[0]]
    source = f"flush({e.value(a, 'f', 32)})" if groups[1] else e.value(a, "f", 32)
    return f"np.{name}({source}).view(u4)"


@form(r"cvt\.f32\.(f16|bf16)")
def _widen(e, target, a, groups):
    if groups[0] == "f16":
        return f"{e.value(a, 'f', 16)}.astype(f4).view(u4)"
    return f"{e.value(a, 'b', 16)}.astype(u4) << u4(16)"


@form(r"cvt\.rn\.(f16|bf16)\.f32")
def _narrow(e, target, a, groups):
    return f"to_{groups[0]}({e.value(a, 'f', 32)})"


@form(r"cvt\.rn\.(f16|bf16)x2\.f32")
def _narrow_pair(e, target, high, low, groups):
    first, second = (f"to_{groups[0]}({e.value(v, 'f', 32)}).astype(u4)" for v in (high, low))
    return f"({first} << u4(16)) | {second}"
