"""The forms of opcodes that reach beyond a lane: memory of all kinds, and exchange between the lanes of a warp."""

from __future__ import annotations

import numpy as np

from .forms import form
from .parsing import PTXError, vector_of

_CACHE = r"(?:\.(?:nc|L1::\w+|L2::\w+|weak|relaxed|acquire|release|acq_rel|volatile|gpu|cta|sys|ca|cg|cs|lu|wb|wt))*"


def _extended(expression, size, wide, signed):
    """A loaded value of `size` bytes as a register of `wide` holds it."""
    if wide <= size:
        return expression
    return f"{expression}.view(i{size}).astype(i{wide}).view(u{wide})" if signed else f"{expression}.astype(u{wide})"


@form(r"ld\.param\.([ubsf])(\d+)")
def _load_parameter(e, target, source, groups):
    name = source.strip("[] ")
    bits, have = int(groups[1]), e.program.parameters[name]
    if bits != have:
        raise PTXError(f"{e.text}: the parameter has {have} bits.")
    number = list(e.program.parameters).index(name)
    return _extended(f"P[{number}]", bits // 8, e.program.registers[target] // 8, groups[0] == "s")


@form(r"ld\.(global|shared)" + _CACHE + r"(?:\.v(\d))?\.([ubsf])(\d+)")
def _load(e, targets, address, policy=None, groups=()):
    space, _, kind, bits = groups
    registers, size = vector_of(targets), int(bits) // 8
    base, offset = e.address(address)
    e.lines.append(
        f"T = {'M' if space == 'global' else 'X'}.load({base}, {offset}, {e.mask}, {size}, {len(registers)}, x, "
        f"{e.constant(e.text)})"
    )
    for k, register in enumerate(registers):
        wide = 0 if register == "_" else e.program.registers[register] // 8
        e.assign(register, _extended(f"T[{k}]", size, wide, kind == "s"))


@form(r"st\.(global|shared)" + _CACHE + r"(?:\.v(\d))?\.([ubsf])(\d+)")
def _store(e, address, sources, policy=None, groups=()):
    space, _, _, bits = groups
    base, offset = e.address(address)
    values = ", ".join(e.value(source, "b", int(bits)) for source in vector_of(sources))
    e.lines.append(
        f"{'M' if space == 'global' else 'X'}.store({base}, {offset}, {e.mask}, {int(bits) // 8}, [{values}], x, "
        f"{e.constant(e.text)})"
    )


_ATOMIC = (
    r"\.global(?:\.(?:relaxed|acquire|release|acq_rel|gpu|cta|sys))*"
    r"\.(add|min|max|and|or|xor|exch|inc|cas)\.([ubs])(32|64)"
)


def _atomic(e, address, values, groups):
    operation, kind, bits = groups
    if operation == "inc" and kind + bits != "u32":
        raise PTXError(f"{e.text}: there is no such opcode.")
    base, offset = e.address(address)
    given = ", ".join(e.value(value, "b", int(bits)) for value in values)
    return (
        f"M.atomic('{operation}', {'i' if kind == 's' else 'u'}{int(bits) // 8}, {base}, {offset}, {e.mask}, "
        f"[{given}], x, {e.constant(e.text)})"
    )


@form("atom" + _ATOMIC)
def _atomic_result(e, target, address, *values, groups):
    return _atomic(e, address, values, groups)


@form("red" + _ATOMIC)
def _atomic_alone(e, address, *values, groups):
    e.lines.append(_atomic(e, address, values, groups))


@form(r"ldmatrix\.sync\.aligned\.m8n8\.x([124])(\.trans)?\.shared\.b16")
def _load_matrix(e, targets, address, groups):
    base, offset = e.address(address)
    e.lines.append(
        f"T = X.load_matrices({base} + u4({offset}), {groups[0]}, {bool(groups[1])}, x, {e.constant(e.text)})"
    )
    for k, register in enumerate(vector_of(targets)):
        e.assign(register, f"T[{k}]")


@form(r"stmatrix\.sync\.aligned\.m8n8\.x([124])(\.trans)?\.shared\.b16")
def _store_matrix(e, address, sources, groups):
    base, offset = e.address(address)
    values = ", ".join(e.value(source, "b", 32) for source in vector_of(sources))
    e.lines.append(f"X.store_matrices({base} + u4({offset}), [{values}], {bool(groups[1])}, x, {e.constant(e.text)})")


@form(r"createpolicy\.fractional\.L2::\w+\.b64")
def _policy(e, target, fraction, groups):
    return e.constant(np.uint64(0))  # where a line is kept does not change what is read


@form(r"bar\.warp\.sync")
def _meet(e, mask, groups):
    _everyone(e, mask)


@form(r"(?:fence|membar)[\w.:]*|prefetch[\w.:]*")
def _order(e, *operands, groups):
    """Lanes already see each other's memory in order."""


# Between the lanes of a warp.


def _everyone(e, mask):
    if e.mask != "None":
        raise PTXError(f"{e.text}: a guard in front of an exchange between lanes is not known.")
    e.lines.append(f"x.whole_warps({e.constant(e.text)}, {e.value(mask, 'u', 32)})")


@form(r"shfl\.sync\.(up|down|bfly|idx)\.b32")
def _exchange(e, target, a, b, clamp, mask, groups):
    _everyone(e, mask)
    value, lane, segment = (e.value(v, "b", 32) for v in (a, b, clamp))
    e.lines.append(f"T = exchange({value}, '{groups[0]}', {lane}, {segment}, x.n)")
    register, _, predicate = target.partition("|")
    if predicate:
        e.assign(predicate, "T[1]")
    e.assign(register, "T[0]")


@form(r"redux\.sync\.(min|max|add|and|or|xor)\.([usb])32")
def _reduce(e, target, a, mask, groups):
    _everyone(e, mask)
    operation, kind = groups
    name = {
        "min": "minimum",
        "max": "maximum",
        "add": "add",
        "and": "bitwise_and",
        "or": "bitwise_or",
        "xor": "bitwise_xor",
    }
    return f"reduce_warps({e.value(a, kind, 32)}, np.{name[operation]}, x.n).view(u4)"
