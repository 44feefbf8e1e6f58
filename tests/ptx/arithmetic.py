"""What PTX computes and NumPy has no operation for, on arrays or scalars of lanes; bit for bit but for NaN payloads.

``div.full.f32`` and ``rcp.approx`` may differ from these exactly rounded results by 2 and 1 units in the last place.
"""

from __future__ import annotations

import numpy as np

U = {8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}
S = {8: np.int8, 16: np.int16, 32: np.int32, 64: np.int64}
F = {16: np.float16, 32: np.float32, 64: np.float64}


def fma(a, b, c):
    """a·b + c of float32, rounded once."""
    product = np.multiply(a, b, dtype=np.float64)  # exact
    c = np.asarray(c, np.float64)
    total = product + c
    part = total - product
    error = (product - (total - part)) + (c - part)
    # Round to odd in float64, so that rounding to float32 is not a second rounding.
    bits = np.asarray(total).view(np.int64)
    fix = np.isfinite(total) & (error != 0) & (bits & 1 == 0)
    toward = np.where((error > 0) == (total > 0), np.int64(1), np.int64(-1))
    return (bits + np.where(fix, toward, np.int64(0))).view(np.float64).astype(np.float32)


def to_bf16(a):
    """float32 as the bits of a bfloat16, to nearest, ties to even."""
    bits = np.asarray(a).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(a), np.uint32(0x7FFF), rounded).astype(np.uint16)


def to_f16(a):
    """float32 as the bits of a float16, to nearest, ties to even."""
    return np.where(np.isnan(a), np.uint16(0x7FFF), np.asarray(a).astype(np.float16).view(np.uint16))


def flush(a):
    """Subnormal float32 as a zero of their sign."""
    small = np.abs(a) < np.float32(2**-126)
    return np.where(small, np.copysign(np.float32(0), a), a)


def to_integer(a, kind, rounding):
    """Floating point to integer: rounded, clamped to what the type holds, NaN as 0."""
    whole = rounding(np.where(np.isnan(a), 0, a).astype(np.float64))
    info = np.iinfo(kind)
    if info.bits < 64:
        return np.clip(whole, info.min, info.max).astype(kind)
    top = float(info.max)  # 2⁶³ or 2⁶⁴: one more than the type holds
    inside = np.where((whole >= top) | (whole < info.min), 0, whole).astype(kind)
    return np.where(whole >= top, kind(info.max), np.where(whole < info.min, kind(info.min), inside))


def minimum(a, b):
    """min.f32: a number beside a NaN is taken, −0 lies below 0."""
    equal = (np.asarray(a).view(np.uint32) | np.asarray(b).view(np.uint32)).view(np.float32)
    return np.where(np.equal(a, b), equal, np.fmin(a, b))


def maximum(a, b):
    """max.f32, likewise."""
    equal = (np.asarray(a).view(np.uint32) & np.asarray(b).view(np.uint32)).view(np.float32)
    return np.where(np.equal(a, b), equal, np.fmax(a, b))


def high_u64(a, b):
    """The upper half of the product of two uint64."""
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    a_low, a_high, b_low, b_high = a & mask, a >> half, b & mask, b >> half
    middle = a_high * b_low + ((a_low * b_low) >> half)
    other = a_low * b_high + (middle & mask)
    return a_high * b_high + (middle >> half) + (other >> half)


def high_s64(a, b):
    """The upper half of the product of two int64, given as uint64."""
    top = np.uint64(63)
    return high_u64(a, b) - np.where(a >> top, b, np.uint64(0)) - np.where(b >> top, a, np.uint64(0))


def permute(a, b, selector):
    """prmt.b32: each byte of the result is one of the eight of a and b, or that byte's sign."""
    both = np.asarray(a).astype(np.uint64) | (np.asarray(b).astype(np.uint64) << np.uint64(32))
    result = np.uint32(0)
    for k in range(4):
        nibble = (np.asarray(selector) >> np.uint32(4 * k)) & np.uint32(15)
        byte = (both >> ((nibble & np.uint32(7)).astype(np.uint64) * np.uint64(8))).astype(np.uint32) & np.uint32(255)
        sign = np.where(byte & np.uint32(128), np.uint32(255), np.uint32(0))
        result = result | (np.where(nibble & np.uint32(8), sign, byte) << np.uint32(8 * k))
    return result


def extract(a, position, length, bits, signed):
    """bfe: `length` bits from `position` on, zero- or sign-extended."""
    position = np.asarray(position).astype(np.int64) & 255
    length = np.asarray(length).astype(np.int64) & 255
    start = np.minimum(position, bits - 1)
    value = np.where(position >= bits, U[bits](0), np.asarray(a) >> start.astype(U[bits]))
    kept = np.minimum(length, bits)
    mask = np.where(
        kept >= bits, U[bits](2**bits - 1), (U[bits](1) << np.minimum(kept, bits - 1).astype(U[bits])) - U[bits](1)
    )
    value = value & mask
    if not signed:
        return value
    sign_at = np.minimum(position + length - 1, bits - 1)
    sign = (np.asarray(a) >> np.maximum(sign_at, 0).astype(U[bits])) & U[bits](1)
    negative = (length > 0) & (sign != 0)
    held = np.clip(bits - position, 0, length)  # bits of the field that lie in a
    above = np.where(held >= bits, U[bits](0), U[bits](2**bits - 1) << np.minimum(held, bits - 1).astype(U[bits]))
    return np.where(negative, value | above, value)


def shift(a, count, bits, left, signed):
    """shl and shr: counts beyond the type's width shift everything out."""
    count = np.asarray(count)
    inside = np.minimum(count, np.uint32(bits - 1)).astype(U[bits])
    if signed and not left:
        return (np.asarray(a).view(S[bits]) >> inside.view(S[bits])).view(U[bits])
    return np.where(count >= bits, U[bits](0), a << inside if left else a >> inside)


def funnel(low, high, count, left, wrap):
    """shf: the upper (left) or lower (right) 32 bits of high:low shifted."""
    count = np.asarray(count)
    count = (count & np.uint32(31) if wrap else np.minimum(count, np.uint32(32))).astype(np.uint64)
    both = (np.asarray(high).astype(np.uint64) << np.uint64(32)) | np.asarray(low).astype(np.uint64)
    return ((both << count) >> np.uint64(32) if left else both >> count).astype(np.uint32)


def dot_bytes(a, b, c, signed_a, signed_b):
    """dp4a: c plus the sum of four products of bytes."""
    total = np.asarray(c).astype(np.int64)
    for k in range(4):
        first, second = (
            ((np.asarray(x) >> np.uint32(8 * k)) & np.uint32(255)).astype(np.uint8).view(np.int8 if s else np.uint8)
            for x, s in ((a, signed_a), (b, signed_b))
        )
        total = total + first.astype(np.int64) * second.astype(np.int64)
    return total.astype(np.uint32)


def lut(a, b, c, table):
    """lop3: any function of three bits, given by its table."""
    result = np.uint32(0)
    for k in range(8):
        if table >> k & 1:
            term = (a if k & 4 else ~a) & (b if k & 2 else ~b) & (c if k & 1 else ~c)
            result = result | term
    return result


def exchange(a, mode, b, clamp, n):
    """shfl.sync between the lanes of whole warps: (value, whether the source lies in the warp's segment)."""
    lane = np.arange(n) & 31
    clamp = np.broadcast_to(np.asarray(clamp).astype(np.int64), (n,))
    segment, limit = (clamp >> 8) & 31, clamp & 31
    b = np.broadcast_to(np.asarray(b).astype(np.int64), (n,)) & 31
    least, most = lane & segment, (lane & segment) | (limit & ~segment)
    source = {"up": lane - b, "down": lane + b, "bfly": lane ^ b, "idx": least | (b & ~segment)}[mode]
    inside = source >= most if mode == "up" else source <= most
    source = np.where(inside, source, lane)
    return np.broadcast_to(a, (n,))[np.arange(n) - lane + source], inside


def reduce_warps(a, operation, n):
    """redux.sync: one value for all lanes of a warp."""
    warps = np.broadcast_to(a, (n,)).reshape(-1, 32)
    return np.repeat(operation.reduce(warps, axis=1, dtype=warps.dtype), 32)


def pairs(a, n):
    """64-bit registers as two float32 each."""
    return np.ascontiguousarray(np.broadcast_to(a, (n,))).view(np.float32)


def halves(a, n):
    """32-bit registers as two 16-bit words each."""
    return np.ascontiguousarray(np.broadcast_to(a, (n,))).view(np.uint16)
