"""``python -m tests.ptx.calibrate``: the emulator against a GPU, opcode by opcode, bit for bit but for NaN payloads.

Every register-to-register opcode form that the emulator knows becomes a tiny kernel, which runs on random operands (and
on the ends and corners of their ranges) on both. Kernels are loaded as PTX through the CUDA driver; memory instructions
move the operands. Opcodes that a GPU does not have (those of a newer generation) are named and left out.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from .machine import Kernel
from .memory import Memory
from .parsing import parse

THREADS = 128
CORNERS = (
    0, 1, 2, 3, 4, 31, 32, 33, 63, 64, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF,
    0x3F800000, 0xBF800000, 0x7F800000, 0xFF800000, 0x7FC00000, 0x00800000, 0x00000001, 0x80000001, 0x4F000000,
    0xCF000000, 0x5F000000, 0x3F000000, 0x3FC00000, 0x40200000, 0x477FF000, 0x33000000, 0x7C00, 0xFC00, 0x3C00,
    0x0400, 0x7E00, 0x7F80,
)  # fmt: skip
NEWER = ("f32x2", "redux.sync.f", "add.s16x2", "bf16", "stmatrix", "redux")
WITHIN = {"div.full.f32": 2, "rcp.approx.f32": 1}
"""Units in the last place by which an approximate instruction may differ from the exactly rounded result."""


@dataclass(frozen=True)
class Form:
    """An opcode with its operands: bits of the result and of each source (1: a predicate), or immediates as text."""

    opcode: str
    result: int
    sources: tuple[int | str, ...]
    kind: str = "u"  # f: results are floating point, and all NaNs are one


def forms() -> Iterator[Form]:
    """What is compared."""
    sizes = (16, 32, 64)
    for bits in sizes:
        for name in ("add.s", "sub.s", "min.s", "min.u", "max.s", "max.u"):
            yield Form(f"{name}{bits}", bits, (bits, bits))
        for name, sign in product(("mul.lo", "mul.hi"), "su"):
            yield Form(f"{name}.{sign}{bits}", bits, (bits, bits))
        for sign in "su":
            yield Form(f"mad.lo.{sign}{bits}", bits, (bits, bits, bits))
            yield Form(f"shr.{sign}{bits}", bits, (bits, 32))
        yield Form(f"shl.b{bits}", bits, (bits, 32))
        yield Form(f"neg.s{bits}", bits, (bits,))
        yield Form(f"abs.s{bits}", bits, (bits,))
        yield Form(f"not.b{bits}", bits, (bits,))
        yield Form(f"selp.b{bits}", bits, (bits, bits, 1))
        for name in ("and", "or", "xor"):
            yield Form(f"{name}.b{bits}", bits, (bits, bits))
        for name, sign in product(("eq", "ne", "lt", "le", "gt", "ge"), "su"):
            yield Form(f"setp.{name}.{sign}{bits}", 1, (bits, bits))
        for name in ("lo", "ls", "hi", "hs"):
            yield Form(f"setp.{name}.u{bits}", 1, (bits, bits))
        for sign, to, of in product("su", "su", sizes):
            yield Form(f"cvt.{to}{bits}.{sign}{of}", bits, (of,))
    for bits, sign in product((16, 32), "su"):
        yield Form(f"mul.wide.{sign}{bits}", 2 * bits, (bits, bits))
        yield Form(f"mad.wide.{sign}{bits}", 2 * bits, (bits, bits, 2 * bits))
    for bits, sign in product((32, 64), "su"):
        yield Form(f"bfe.{sign}{bits}", bits, (bits, 32, 32))
        yield Form(f"bfe.{sign}{bits}", bits, (bits, "7", "9"))
    for side, mode in product("lr", ("wrap", "clamp")):
        yield Form(f"shf.{side}.{mode}.b32", 32, (32, 32, 32))
    yield Form("prmt.b32", 32, (32, 32, 32))
    for selector in ("0x5410", "0x7632", "0x7770", "0x3340", "0x8bad"):
        yield Form("prmt.b32", 32, (32, 32, selector))
    yield Form("lop3.b32", 32, (32, 32, 32, "0x6a"))
    for one, other in product("su", "su"):
        yield Form(f"dp4a.{one}32.{other}32", 32, (32, 32, 32))
    yield Form("add.s16x2", 32, (32, 32))
    for name in ("add", "sub", "mul"):
        yield Form(f"{name}.rn.f32", 32, (32, 32), "f")
        yield Form(f"{name}.rn.f32x2", 64, (64, 64), "f")
    yield Form("fma.rn.f32", 32, (32, 32, 32), "f")
    yield Form("fma.rn.f32x2", 64, (64, 64, 64), "f")
    for name in ("min.f32", "max.f32", "div.rn.f32", "div.full.f32"):
        yield Form(name, 32, (32, 32), "f")
    for name in ("neg.f32", "abs.f32", "sqrt.rn.f32", "rcp.rn.f32", "rcp.approx.f32"):
        yield Form(name, 32, (32,), "f")
    for name in ("eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"):
        yield Form(f"setp.{name}.f32", 1, (32, 32))
    for mode in ("rzi", "rni", "rmi", "rpi"):
        for sign, bits in product("su", sizes):
            yield Form(f"cvt.{mode}.{sign}{bits}.f32", bits, (32,))
        yield Form(f"cvt.{mode}.f32.f32", 32, (32,), "f")
        yield Form(f"cvt.{mode}.ftz.f32.f32", 32, (32,), "f")
    for sign, bits in product("su", sizes):
        yield Form(f"cvt.rn.f32.{sign}{bits}", 32, (bits,), "f")
    for half in ("f16", "bf16"):
        yield Form(f"cvt.f32.{half}", 32, (16,), "f")
        yield Form(f"cvt.rn.{half}.f32", 16, (32,), f"f{half}")
        yield Form(f"cvt.rn.{half}x2.f32", 32, (32, 32), f"f{half}")
    for name in ("and", "or", "xor"):
        yield Form(f"{name}.pred", 1, (1, 1))
    yield Form("not.pred", 1, (1,))
    for mode in ("bfly", "up", "down", "idx"):
        yield Form(f"shfl.sync.{mode}.b32", 32, (32, "5", "0" if mode == "up" else "31", "-1"))
    for name, sign in (("min", "s"), ("max", "s"), ("min", "u"), ("max", "u"), ("add", "s"), ("and", "b"), ("or", "b")):
        yield Form(f"redux.sync.{name}.{sign}32", 32, (32, "-1"))


_PREFIX = {1: "%p", 16: "%rs", 32: "%r", 64: "%rd"}


def ptx_of(form: Form, target: str, version: str = "8.0") -> str:
    """A kernel that takes three arrays of uint64 operands and writes one of uint64 results, one of each per thread."""
    lines, operands, used = [], [], dict.fromkeys(_PREFIX, 20)
    for k, source in enumerate(form.sources):
        if isinstance(source, str):
            operands.append(source)
            continue
        lines.append(f"ld.global.b64 %rd{10 + k}, [%rd{5 + k}];")
        register = f"%rd{10 + k}"
        if source in (16, 32):
            lines.append(f"cvt.u{source}.u64 {_PREFIX[source]}{10 + k}, {register};")
            register = f"{_PREFIX[source]}{10 + k}"
        elif source == 1:
            lines += [f"and.b64 %rd{20 + k}, {register}, 1;", f"setp.ne.s64 %p{10 + k}, %rd{20 + k}, 0;"]
            register = f"%p{10 + k}"
        operands.append(register)
    result = f"{_PREFIX[form.result]}{used[form.result] + 5}"
    lines.append(f"{form.opcode} {', '.join([result, *operands])};")
    if form.result == 1:
        lines.append(f"selp.b64 %rd30, 1, 0, {result};")
    elif form.result == 64:
        lines.append(f"mov.b64 %rd30, {result};")
    else:
        lines.append(f"cvt.u64.u{form.result} %rd30, {result};")
    arrays = [f"ld.param.b64 %rd{k}, [one_param_{k}];" for k in range(4)]
    places = [f"add.s64 %rd{5 + k}, %rd{k}, %rd4;" for k in range(4)]
    body = "\n\t".join(
        [
            *arrays,
            "mov.u32 %r1, %tid.x;",
            "mul.wide.u32 %rd4, %r1, 8;",
            *places,
            *lines,
            "st.global.b64 [%rd8], %rd30;",
            "ret;",
        ]
    )
    registers = "\n\t".join(f".reg .{'pred' if b == 1 else f'b{b}'} {p}<40>;" for b, p in _PREFIX.items())
    parameters = ",\n".join(f"\t.param .u64 one_param_{k}" for k in range(4))
    return (
        f".version {version}\n.target {target}\n.address_size 64\n.visible .entry one(\n{parameters}\n)\n"
        f".reqntid {THREADS}\n{{\n\t{registers}\n\t{body}\n}}\n"
    )


def operands_for(form: Form, rng: np.random.Generator) -> list[np.ndarray]:
    """Three arrays of uint64, one entry per thread: half of them corners, half of them anything."""
    found = []
    for _ in range(3):
        values = rng.integers(0, 2**64, THREADS, dtype=np.uint64)
        corners = rng.choice(np.array(CORNERS, np.uint64), THREADS)
        corners |= rng.choice(np.array(CORNERS, np.uint64), THREADS) << np.uint64(32)
        found.append(np.where(rng.random(THREADS) < 0.5, values, corners))
    return found


def emulated(form: Form, operands: list[np.ndarray]) -> np.ndarray:
    """What the emulator makes of the operands."""
    arrays = [*operands, np.zeros(THREADS, np.uint64)]
    memory = Memory(Memory.needed([array.nbytes for array in arrays]))
    places = [memory.allocate(f"array {k}", a.view(np.uint8), 0, writable=k == 3) for k, a in enumerate(arrays)]
    Kernel(parse(ptx_of(form, "sm_90")), 0).launch(1, places, memory)
    return memory.content(places[3], 8 * THREADS).view(np.uint64).copy()


def differences(form: Form, ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """The threads whose results differ; NaNs are equal to each other."""
    if not form.kind.startswith("f"):
        return np.flatnonzero(ours != theirs)
    if form.kind == "f":
        one, other = (np.ascontiguousarray(values).view(np.float32).reshape(-1, 2) for values in (ours, theirs))
        same = (one.view(np.uint32) == other.view(np.uint32)) | (np.isnan(one) & np.isnan(other))
        if form.opcode in WITHIN:
            distance = np.abs(one.view(np.int32).astype(np.int64) - other.view(np.int32).astype(np.int64))
            same |= distance <= WITHIN[form.opcode]
    else:
        infinity = 0x7C00 if form.kind == "ff16" else 0x7F80
        one, other = (np.ascontiguousarray(values).view(np.uint16).reshape(-1, 4) for values in (ours, theirs))
        same = (one == other) | (((one & 0x7FFF) > infinity) & ((other & 0x7FFF) > infinity))
    return np.flatnonzero(~same.all(axis=1))


class Driver:
    """The first GPU, by the CUDA driver's own interface. Raises OSError where there is none."""

    def __init__(self) -> None:
        self.cuda = ctypes.CDLL("libcuda.so.1")
        self.call("cuInit", 0)
        device, context, major, minor = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_int(), ctypes.c_int()
        self.call("cuDeviceGet", ctypes.byref(device), 0)
        self.call("cuDeviceGetAttribute", ctypes.byref(major), 75, device)
        self.call("cuDeviceGetAttribute", ctypes.byref(minor), 76, device)
        self.target = f"sm_{major.value}{minor.value}"
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self.call("cuCtxSetCurrent", context)

    def call(self, name: str, *arguments: object) -> None:
        """Call a function of the driver. Raises OSError where it fails."""
        if code := getattr(self.cuda, name)(*arguments):
            raise OSError(f"{name} of the CUDA driver answers {code}.")

    def run(self, ptx: str, operands: list[np.ndarray]) -> np.ndarray:
        """The results of a kernel of `ptx_of`."""
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("cuModuleLoadData", ctypes.byref(module), ctypes.c_char_p(ptx.encode()))
        self.call("cuModuleGetFunction", ctypes.byref(function), module, b"one")
        places = []
        for array in [*operands, np.zeros(THREADS, np.uint64)]:
            place = ctypes.c_uint64()
            self.call("cuMemAlloc_v2", ctypes.byref(place), ctypes.c_size_t(array.nbytes))
            self.call("cuMemcpyHtoD_v2", place, array.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(array.nbytes))
            places.append(place)
        pointers = (ctypes.c_void_p * 4)(*(ctypes.cast(ctypes.byref(p), ctypes.c_void_p) for p in places))
        self.call("cuLaunchKernel", function, 1, 1, 1, THREADS, 1, 1, 0, None, pointers, None)
        self.call("cuCtxSynchronize")
        found = np.zeros(THREADS, np.uint64)
        self.call("cuMemcpyDtoH_v2", found.ctypes.data_as(ctypes.c_void_p), places[3], ctypes.c_size_t(found.nbytes))
        for place in places:
            self.call("cuMemFree_v2", place)
        self.call("cuModuleUnload", module)
        return found


def main() -> int:
    """Compare all forms; 0 where none differs."""
    try:
        driver = Driver()
    except OSError as error:
        print(f"There is no GPU to compare the emulator with: {error}", file=sys.stderr)
        return 1
    rng, wrong, absent, count = np.random.default_rng(0), 0, [], 0
    for form in forms():
        # ftz and approximate instructions aside, PTX says the same of every generation; what is newer fails to load.
        version = "8.6" if "x2" in form.opcode and "f32x2" in form.opcode else "7.8"
        for _ in range(8):
            operands = operands_for(form, rng)
            try:
                theirs = driver.run(ptx_of(form, driver.target, version), operands)
            except OSError as error:
                absent.append(form.opcode)
                if not any(name in form.opcode for name in NEWER):
                    print(f"{form.opcode}: {error}")
                    wrong += 1
                break
            count += 1
            if (bad := differences(form, emulated(form, operands), theirs)).size:
                given = [hex(int(operand[bad[0]])) for operand in operands[: len(form.sources)]]
                print(f"{form.opcode} {form.sources}: {bad.size} of {THREADS} differ, the first for {given}")
                wrong += 1
                break
    print(f"{driver.target}: {count} kernels compared, {wrong} forms differ; this GPU lacks {sorted(set(absent))}.")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
