"""Registers that hold the channels of two neighbouring pixels, or of a block of pixels, in functions of numba.

Pixels lie in memory with four float32 side by side. As in `numba_primitives`, what stands here is fixed: numba does not
compile anew what uses it.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

LANES = 4
"""Channels that are worked on at a time."""

BLOCK = 16
"""Pixels of a line whose channels are brought together or separated at a time; lines in scratch memory hold whole ones.
"""


class _Pair(types.Type):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(name="Pair")


_FLOATS = {count: ir.VectorType(ir.FloatType(), count) for count in (LANES, 2 * LANES, BLOCK)}


@register_model(_Pair)
class _PairModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _FLOATS[2 * LANES])


_pair = _Pair()


def _loaded(builder: Any, address: Any, count: int) -> Any:
    return builder.load(builder.inttoptr(address, _FLOATS[count].as_pointer()), align=4)


def _stored(builder: Any, address: Any, count: int, values: Any) -> None:
    builder.store(values, builder.inttoptr(address, _FLOATS[count].as_pointer()), align=4)


def _chosen(builder: Any, places: list[int], one: Any, other: Any = None) -> Any:
    """The values at these places of two registers, one behind the other."""
    other = ir.Constant(one.type, ir.Undefined) if other is None else other
    return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places))


def _registers(builder: Any, address: Any, count: int, step: int) -> list[Any]:
    """So many registers of a block of values, the first values of which lie `step` values apart."""
    at = [builder.add(address, ir.IntType(64)(4 * step * i)) for i in range(count)]
    return [_loaded(builder, one, BLOCK) for one in at]


@intrinsic
def load_pair(typing_context: Any, address: Any) -> Any:
    """Four channels of the pixel at an address, and of the one behind it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _loaded(builder, arguments[0], 2 * LANES)

    return _pair(types.int64), generate


@intrinsic
def times(typing_context: Any, pair: Any, weights: Any) -> Any:
    """pair · weights."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fmul(*arguments)

    return _pair(_pair, _pair), generate


@intrinsic
def times_plus(typing_context: Any, pair: Any, weights: Any, others: Any) -> Any:
    """pair · weights + others, rounded once where the processor can."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(_FLOATS[2 * LANES], [_FLOATS[2 * LANES]] * 3)
        return builder.call(builder.module.declare_intrinsic(f"llvm.fmuladd.v{2 * LANES}f32", (), kind), arguments)

    return _pair(_pair, _pair, _pair), generate


@intrinsic
def store_sum(typing_context: Any, address: Any, pair: Any) -> Any:
    """Add the two pixels of a pair, and store the sum."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        one = _chosen(builder, list(range(LANES)), arguments[1])
        other = _chosen(builder, list(range(LANES, 2 * LANES)), arguments[1])
        _stored(builder, arguments[0], LANES, builder.fadd(one, other))
        return context.get_dummy_value()

    return types.void(types.int64, _pair), generate


@intrinsic
def separate(typing_context: Any, address: Any, target: Any, plane: Any) -> Any:
    """Write the lanes of a block of pixels apart: lane i of all at `target` plus i times `plane` bytes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values, target = _registers(builder, arguments[0], LANES, BLOCK), arguments[1]
        every = range(0, 2 * BLOCK, LANES)
        both = [*range(BLOCK // 2), *range(3 * BLOCK // 2, 2 * BLOCK)]
        for i in range(LANES):
            halves = [_chosen(builder, [x + i for x in every] * 2, *two) for two in (values[:2], values[2:])]
            _stored(
                builder,
                target,
                BLOCK,
                _chosen(builder, both, *halves),
            )
            target = builder.add(target, arguments[2])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic
def bring_together(typing_context: Any, a: Any, b: Any, c: Any, d: Any, target: Any) -> Any:
    """Write a block of pixels, whose channels lie at four addresses, with its channels side by side."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        planes = [_loaded(builder, address, BLOCK) for address in arguments[:LANES]]
        for k in range(LANES):
            pixels = range(k * BLOCK // LANES, (k + 1) * BLOCK // LANES)
            places = [x + BLOCK * i for x in pixels for i in (0, 1, 0, 1)]
            halves = [_chosen(builder, places, *two) for two in (planes[:2], planes[2:])]
            both = [4 * x + i + BLOCK * (i // 2) for x in range(BLOCK // LANES) for i in range(LANES)]
            target = builder.add(arguments[LANES], ir.IntType(64)(4 * BLOCK * k))
            _stored(builder, target, BLOCK, _chosen(builder, both, *halves))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), generate


@intrinsic
def spread(typing_context: Any, address: Any, target: Any) -> Any:
    """Write a block of pixels of three channels with room for a fourth; four values behind them are read."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        places = [3 * x + min(i, 2) for x in range(BLOCK // LANES) for i in range(LANES)]
        values = _registers(builder, arguments[0], LANES, 3 * BLOCK // LANES)
        for k, value in enumerate(values):
            target = builder.add(arguments[1], ir.IntType(64)(4 * BLOCK * k))
            _stored(builder, target, BLOCK, _chosen(builder, places, value))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate
