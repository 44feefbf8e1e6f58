"""What the functions that numba compiles are made of: memory by address, a shared counter, and floats of 16 bits.

numba keeps compiled code on disk until the file changes that holds the compiled function, not when this one does. So
what stands here is fixed: it may grow, but nothing may come to mean something else.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_I16, _I32, _FLOAT = ir.IntType(16), ir.IntType(32), ir.FloatType()


@intrinsic
def pointer(typing_context: Any, address: Any) -> Any:
    """An address as a pointer, for `carray`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), generate


@intrinsic
def take(typing_context: Any, address: Any) -> Any:
    """Add one to the int64 at an address, atomically, and return what it was before."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        counter = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", counter, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(types.int64), generate


@intrinsic
def fma(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """a·b + c in float32, rounded once where the processor can."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(_FLOAT, [_FLOAT] * 3)
        return builder.call(builder.module.declare_intrinsic("llvm.fmuladd.f32", (), kind), arguments)

    return types.float32(types.float32, types.float32, types.float32), generate


@intrinsic
def nearest_byte(typing_context: Any, value: Any) -> Any:
    """A float32 in (−0.5, 255.5) as uint8: to nearest, ties to even."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(_FLOAT, [_FLOAT])
        rounded = builder.call(builder.module.declare_intrinsic("llvm.rint.f32", (), kind), arguments)
        return builder.trunc(builder.fptosi(rounded, _I32), ir.IntType(8))

    return types.uint8(types.float32), generate


# The numbers of 16 bits that numba has no type for, as integers of the same bits: float16 as uint16, bfloat16 as int16,
# so that the two are different types. Branches would keep the compiler from vectorizing, hence the selects.


@intrinsic
def to_bfloat16(typing_context: Any, value: Any) -> Any:
    """A float32 as the bits of the nearest bfloat16, ties to even."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = builder.bitcast(arguments[0], _I32)
        odd = builder.and_(builder.lshr(bits, _I32(16)), _I32(1))
        rounded = builder.lshr(builder.add(bits, builder.add(odd, _I32(0x7FFF))), _I32(16))
        is_nan = builder.fcmp_unordered("uno", arguments[0], arguments[0])
        return builder.trunc(builder.select(is_nan, _I32(0x7FC0), rounded), _I16)

    return types.int16(types.float32), generate


@intrinsic
def from_bfloat16(typing_context: Any, bits: Any) -> Any:
    """The float32 of the same value."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(builder.shl(builder.zext(arguments[0], _I32), _I32(16)), _FLOAT)

    return types.float32(types.int16), generate


def _has_f16c(context: Any) -> bool:
    """Whether code is generated for x86 with instructions that convert float16; without them LLVM calls a function."""
    return "+f16c" in context.codegen().magic_tuple()[2]


def _float16_of(builder: Any, value: Any) -> Any:
    """Bits of the nearest float16 in integer operations."""
    bits = builder.bitcast(value, _I32)
    sign = builder.and_(bits, _I32(0x80000000))
    size = builder.xor(bits, sign)
    odd = builder.and_(builder.lshr(size, _I32(13)), _I32(1))
    rebased = builder.add(size, _I32((15 - 127 << 23) + 0xFFF & 0xFFFFFFFF))  # the exponent's bias is 15
    normal = builder.lshr(builder.add(rebased, odd), _I32(13))
    # Below 2⁻¹⁴ the unit is 2⁻²⁴; so it is in float32 above ½, and that sum is rounded as wanted.
    half = _I32(126 << 23)
    shifted = builder.fadd(builder.bitcast(size, _FLOAT), builder.bitcast(half, _FLOAT))
    subnormal = builder.sub(builder.bitcast(shifted, _I32), half)
    result = builder.select(builder.icmp_unsigned("<", size, _I32(113 << 23)), subnormal, normal)
    result = builder.select(builder.icmp_unsigned(">=", size, _I32(143 << 23)), _I32(0x7C00), result)
    result = builder.select(builder.icmp_unsigned(">", size, _I32(255 << 23)), _I32(0x7E00), result)
    return builder.trunc(builder.or_(result, builder.lshr(sign, _I32(16))), _I16)


def _float32_of(builder: Any, half: Any) -> Any:
    """The float32 of a float16's bits in integer operations."""
    bits = builder.zext(half, _I32)
    size = builder.shl(builder.and_(bits, _I32(0x7FFF)), _I32(13))
    sign = builder.shl(builder.and_(bits, _I32(0x8000)), _I32(16))
    exponent = builder.and_(size, _I32(0x7C00 << 13))
    normal = builder.add(size, _I32(127 - 15 << 23))
    infinite = builder.add(size, _I32(2 * (127 - 15) << 23))
    # 2⁻¹⁴ · (1 + fraction) − 2⁻¹⁴, exactly
    smallest = builder.bitcast(_I32(113 << 23), _FLOAT)
    above = builder.bitcast(builder.add(size, _I32(113 << 23)), _FLOAT)
    subnormal = builder.bitcast(builder.fsub(above, smallest), _I32)
    result = builder.select(builder.icmp_unsigned("==", exponent, _I32(0)), subnormal, normal)
    result = builder.select(builder.icmp_unsigned("==", exponent, _I32(0x7C00 << 13)), infinite, result)
    return builder.bitcast(builder.or_(result, sign), _FLOAT)


@intrinsic
def to_float16_by_integers(typing_context: Any, value: Any) -> Any:
    """`to_float16` where the processor has no instruction for it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _float16_of(builder, arguments[0])

    return types.uint16(types.float32), generate


@intrinsic
def from_float16_by_integers(typing_context: Any, bits: Any) -> Any:
    """`from_float16` where the processor has no instruction for it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _float32_of(builder, arguments[0])

    return types.float32(types.uint16), generate


@intrinsic
def to_float16(typing_context: Any, value: Any) -> Any:
    """A float32 as the bits of the nearest float16, ties to even; beyond 65504 by half a unit or more: infinity."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if _has_f16c(context):
            return builder.bitcast(builder.fptrunc(arguments[0], ir.HalfType()), _I16)
        return _float16_of(builder, arguments[0])

    return types.uint16(types.float32), generate


@intrinsic
def from_float16(typing_context: Any, bits: Any) -> Any:
    """The float32 of the same value."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if _has_f16c(context):
            return builder.fpext(builder.bitcast(arguments[0], ir.HalfType()), _FLOAT)
        return _float32_of(builder, arguments[0])

    return types.float32(types.uint16), generate
