"""Launches of Triton's kernels on the emulator, compiled as Triton compiles them for a GPU that is not there.

Triton's own code decides for what a launch is compiled: types, constants, which pointers are aligned. A kernel is
compiled once in a process; Triton's cache keeps it for the next.
"""

from __future__ import annotations

import contextlib
import ctypes
import random
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import triton
from torch import Tensor
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import CUDABackend
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import JITFunction, create_function_from_signature

from diffcore_gpu.kernels import spec

from .machine import Kernel
from .memory import Fault, Memory, Requests
from .parsing import parse

ADDRESSES = spec.CONSTANTS[: spec.CONSTANTS.index("num_samples")]
"""The entries of the packed constants that are addresses."""
WRITABLE = {"out", "status", "round"}
"""Arguments that every kernel may write; the plan is written by those with WRITE_PLAN."""
_known: dict[int, list[Any]] = {}  # address → weak references to the tensors whose data_ptr() gave it away


def remember_addresses() -> None:
    """From now on, remember of which tensor every data_ptr() is: a kernel may load the address from its constants."""
    plain = torch._C.TensorBase.data_ptr

    def data_ptr(self: Tensor) -> int:
        address = plain(self)
        if address:
            living = [reference for reference in _known.get(address, ()) if reference() is not None]
            _known[address] = [*living, weakref.ref(self)]
        return address

    torch.Tensor.data_ptr = data_ptr


def _span(tensor: Tensor) -> int:
    """Bytes from a tensor's first element to its last."""
    if not tensor.numel():
        return 0
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    return (sum((size - 1) * stride for size, stride in steps) + 1) * tensor.element_size()


def _raw(address: int, size: int) -> np.ndarray:
    """Bytes of this process's memory."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address)) if size else np.zeros(0, np.uint8)


@dataclass
class Stretch:
    """Bytes of one or more tensors that overlap: [start, end) in this process's memory."""

    start: int
    end: int
    names: list[str]
    writable: bool
    tensors: list[Tensor]
    emulated: int = 0

    def times(self) -> tuple[int, ...] | None:
        """How often a byte may be written: of an output once, of one that is the input too at most once."""
        if "status" in self.names or "round" in self.names:
            return None
        return (1,) if "out" in self.names and "images" not in self.names else (0, 1)


@dataclass
class Launch:
    """One launch that ran, which can be run again.

    Attributes:
        key: of the kernel among those of the emulator: its name, and for what it is compiled.
        constants: those that it was compiled for.
        grid: the number of blocks.
        arguments: what it was given, tensors as emulated addresses.
        memory: as it was before the launch.
        outputs: per writable stretch its emulated address, its bytes after the launch and how often each may have been
            written (None: any number of times).
        loaded: bytes that its lanes asked for.
        requests: what its warps asked of each argument, where that is recorded.
        values: how many values `out` has.
    """

    key: tuple[str, str]
    constants: dict[str, Any]
    grid: int
    arguments: list[int]
    memory: Memory
    outputs: list[tuple[int, np.ndarray, tuple[int, ...] | None]]
    loaded: int
    requests: dict[tuple[str, str], Requests] | None
    values: int


@dataclass
class Emulator:
    """How kernels are launched, and what was launched.

    Attributes:
        target: such as ``sm_90``.
        apart: warps of a block run one by one between barriers, in an order of chance.
        sectors: requests to memory are recorded.
        kernels: every compiled kernel, by its name and what it is compiled for.
        replace: a kernel that runs in place of another, for mutants.
    """

    target: str
    apart: bool = False
    sectors: bool = False
    seed: int = 0
    at_a_time: int | None = None
    kernels: dict[tuple[str, str], Kernel] = field(default_factory=dict)
    constants: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    replace: dict[tuple[str, str], Kernel] = field(default_factory=dict)
    launches: list[Launch] | None = None
    count: int = 0

    def __post_init__(self) -> None:
        # ptxas is nothing to the emulator. The cache is another one, which nothing else takes kernels from.
        CUDABackend.make_cubin = lambda *_arguments, **_options: b""
        knobs.cache.dir = str(Path(knobs.cache.dir) / "ptx")
        self.backend_target = GPUTarget("cuda", int(self.target.removeprefix("sm_")), 32)
        self.backend = make_backend(self.backend_target)
        self.rng = random.Random(self.seed)

    @contextlib.contextmanager
    def recording(self, *, sectors: bool = False) -> Iterator[list[Launch]]:
        """The launches within, with their requests where `sectors` says so."""
        before = self.launches, self.sectors
        self.launches, self.sectors = [], sectors
        try:
            yield self.launches
        finally:
            self.launches, self.sectors = before

    def compile(self, function: JITFunction, bound: dict[str, Any], specialization: list[Any], options: dict[str, Any]):
        """(key, kernel) of a launch; what is compiled is what Triton would compile for it."""
        key = function.__name__, repr((specialization, sorted(options.items()), _constants(bound, specialization)))
        if key not in self.kernels:
            parsed, signature, constants, attributes = function._pack_args(
                self.backend, options, bound, specialization, None
            )
            source = ASTSource(function, signature, constants, attributes)
            compiled = triton.compile(source, target=self.backend_target, options=parsed.__dict__)
            kernel = Kernel(parse(compiled.asm["ptx"]), compiled.metadata.shared)
            kernel.compiled = compiled
            self.kernels[key] = kernel
            self.constants[key] = _constants(bound, specialization)
        return key, self.replace.get(key, self.kernels[key])

    def launch(
        self, function: JITFunction, binder: Any, grid: tuple[int, ...], *arguments: Any, **keywords: Any
    ) -> Any:
        """Run one launch, and check what it wrote."""
        bound, specialization, options = binder(*arguments, **keywords)
        bound = dict(bound)
        key, kernel = self.compile(function, bound, specialization, {**options})
        constants = self.constants[key]
        passed = {n: v for (n, v), s in zip(bound.items(), specialization, strict=True) if s[0] != "constexpr"}
        tensors = {name: value for name, value in passed.items() if isinstance(value, Tensor)}
        writable = WRITABLE | ({n for n in tensors if n.startswith("plan")} if constants.get("WRITE_PLAN") else set())
        stretches = _stretches(tensors, writable)
        memory = Memory(Memory.needed([s.end - s.start for s in stretches]), sectors=self.sectors)
        for s in stretches:
            names = "/".join(dict.fromkeys(s.names))
            s.emulated = memory.allocate(names, _raw(s.start, s.end - s.start), s.start % 256, writable=s.writable)
        _translate_addresses(tensors, stretches, memory)
        actual = [_emulated(stretches, v.data_ptr()) if isinstance(v, Tensor) else int(v) for v in passed.values()]
        if len(grid) != 1 or grid[0] < 1:
            raise Fault(f"{function.__name__}: the grid is {grid}.")
        before = None if self.launches is None else memory.copy()
        kernel.launch(
            grid[0], actual, memory, seed=self.rng.randrange(2**32), apart=self.apart, at_a_time=self.at_a_time
        )
        self.count += 1
        outputs = []
        for s in stretches:
            if s.writable:
                content = memory.content(s.emulated, s.end - s.start)
                outputs.append((s.emulated, content.copy(), s.times()))
                check_writes(memory, s.emulated, s.end - s.start, s.times(), function.__name__, s.names)
                _raw(s.start, s.end - s.start)[:] = content
        if before is not None:
            values = tensors["out"].numel()
            self.launches.append(
                Launch(key, constants, grid[0], actual, before, outputs, memory.loaded, memory.requests, values)
            )
        return kernel

    def wrap(self, function: JITFunction) -> Emulated:
        """What stands in place of a kernel."""
        return Emulated(self, function)


class Emulated:
    """A kernel whose launches run on the emulator."""

    def __init__(self, emulator: Emulator, function: JITFunction) -> None:
        self.emulator, self.function, self.arg_names = emulator, function, function.arg_names
        self.binder = create_function_from_signature(function.signature, function.params, emulator.backend)

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def launch(*arguments: Any, **keywords: Any) -> Any:
            return self.emulator.launch(self.function, self.binder, grid, *arguments, **keywords)

        return launch


def _constants(bound: dict[str, Any], specialization: list[Any]) -> dict[str, Any]:
    return {name: value for (name, value), s in zip(bound.items(), specialization, strict=True) if s[0] == "constexpr"}


def _stretches(tensors: dict[str, Tensor], writable: set[str]) -> list[Stretch]:
    """The memory of the arguments and of what the packed constants point to; what overlaps is one stretch."""
    found = [Stretch(t.data_ptr(), t.data_ptr() + _span(t), [n], n in writable, [t]) for n, t in tensors.items()]
    if "constants" in tensors:
        for name, address in zip(ADDRESSES, tensors["constants"].tolist(), strict=False):
            if address:
                tensor = _tensor_at(name, address)
                found.append(Stretch(address, address + _span(tensor), [name], False, [tensor]))
    found.sort(key=lambda s: (s.start, s.end))
    merged: list[Stretch] = []
    for s in found:
        if (merged and s.start < merged[-1].end) or (merged and s.start == merged[-1].start):
            last = merged[-1]
            last.end = max(last.end, s.end)
            last.names += s.names
            last.tensors += s.tensors
            last.writable |= s.writable
        else:
            merged.append(s)
    return merged


def _tensor_at(name: str, address: int) -> Tensor:
    living = [tensor for reference in _known.get(address, ()) if (tensor := reference()) is not None]
    if not living:
        raise Fault(f"The constants say that {name} lies at {address:#x}, where no tensor lies that is still alive.")
    return max(living, key=_span)


def _emulated(stretches: list[Stretch], address: int) -> int:
    """The emulated address of a tensor's memory."""
    s = next(s for s in stretches if s.start <= address < max(s.end, s.start + 1))
    return s.emulated + address - s.start


def _translate_addresses(tensors: dict[str, Tensor], stretches: list[Stretch], memory: Memory) -> None:
    """Let the addresses among the emulated constants be emulated addresses."""
    if "constants" not in tensors:
        return
    at = _emulated(stretches, tensors["constants"].data_ptr())
    for k, address in enumerate(tensors["constants"].tolist()[: len(ADDRESSES)]):
        if address:
            memory.content(at + 8 * k, 8).view(np.int64)[0] = _emulated(stretches, address)


def check_writes(
    memory: Memory, address: int, size: int, times: tuple[int, ...] | None, kernel: str, names: list[str]
) -> None:
    """Raises Fault unless every byte of an output was written as often as it may be."""
    if times is None:
        return
    writes = memory.writes(address, size)
    if (wrong := ~np.isin(writes, times)).any():
        k = int(np.flatnonzero(wrong)[0])
        raise Fault(f"{kernel}: byte {k} of {'/'.join(names)} was written {writes[k]} times.")
