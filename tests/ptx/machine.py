"""Runs a program on the blocks of a grid, many blocks and all their lanes at a time.

Lanes that part at a branch go on where the program is behind: of all the basic blocks at which lanes stand, the first
in the text runs next, which brings them together again. Warps of a block run together (lockstep), or one by one in an
order of chance from barrier to barrier; blocks run in an order of chance.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .arithmetic import U
from .memory import Fault, Lanes, Memory, Shared
from .parsing import Program, PTXError
from .translation import translate

LANES_AT_A_TIME = 4096
STEPS = 100_000
"""Basic blocks that a group of blocks runs before it is taken to be in an endless loop."""


class Kernel:
    """A program that can be launched; `executed` counts how often each basic block ran, `steps` are at most `STEPS`."""

    def __init__(self, program: Program, shared: int) -> None:
        self.program = program
        self.steps = STEPS
        self.shared = shared
        self.executed = np.zeros(len(program.blocks), np.int64)
        self._code: list[Callable[..., Any] | None] = [None] * len(program.blocks)

    def code(self, block: int) -> Callable[..., Any]:
        """The Python function of a basic block, made when it first runs."""
        if self._code[block] is None:
            self._code[block] = translate(self.program, self.program.blocks[block])
        return self._code[block]

    def changed(self, program: Program) -> Kernel:
        """The kernel of a program that differs in one block: the others need no new translation but for liveness."""
        other = Kernel(program, self.shared)
        for k, (mine, theirs) in enumerate(zip(self.program.blocks, program.blocks, strict=True)):
            same = mine.body == theirs.body and mine.end == theirs.end
            if same and mine.live_in == theirs.live_in and mine.live_out == theirs.live_out:
                other._code[k] = self._code[k]
        return other

    def launch(
        self, grid: int, arguments: Sequence[int], memory: Memory, *, seed: int = 0, apart: bool = False,
        at_a_time: int | None = None,
    ) -> None:  # fmt: skip
        """Run all blocks of a grid.

        Args:
            grid: the number of blocks.
            arguments: addresses and numbers, in the order of the parameters; those that are not given are 0.
            memory: what addresses mean.
            seed: of the order of blocks and warps.
            apart: warps run one by one, in an order of chance.
            at_a_time: blocks that run together; otherwise as many as make 4096 lanes.

        Raises:
            Fault: as the GPU would do, or should.
        """
        rng = random.Random(seed)
        widths = list(self.program.parameters.values())
        given = [*arguments, *[0] * (len(widths) - len(arguments))]
        if len(given) != len(widths):
            raise PTXError(f"{self.program.name} has {len(widths)} parameters, not {len(given)}.")
        parameters = [np.array(v % 2**w, U[w])[()] for v, w in zip(given, widths, strict=True)]
        order = list(range(grid))
        rng.shuffle(order)
        count = at_a_time or max(1, LANES_AT_A_TIME // self.program.threads)
        with np.errstate(all="ignore"):
            for first in range(0, grid, count):
                _Group(self, order[first : first + count], grid, parameters, memory, rng, apart).run()


class _Group:
    """Blocks that run together."""

    def __init__(
        self, kernel: Kernel, blocks: list[int], grid: int, parameters: list[Any], memory: Memory, rng: random.Random,
        apart: bool,
    ) -> None:  # fmt: skip
        self.kernel, self.memory, self.parameters = kernel, memory, parameters
        threads = kernel.program.threads
        self.shared = Shared(kernel.shared, len(blocks))
        numbers = np.array(blocks, np.uint32)
        slots = np.arange(len(blocks))
        self.units = []
        if apart:
            orders = np.array([rng.sample(range(threads // 32), threads // 32) for _ in blocks])
            for k in range(threads // 32):
                tid = (orders[:, k, None] * 32 + np.arange(32)).astype(np.uint32).reshape(-1)
                lanes = Lanes(tid, np.repeat(numbers, 32), np.repeat(slots, 32), grid, threads)
                self.units.append(_Unit(kernel, lanes))
        else:
            tid = np.tile(np.arange(threads, dtype=np.uint32), len(blocks))
            lanes = Lanes(tid, np.repeat(numbers, threads), np.repeat(slots, threads), grid, threads)
            self.units.append(_Unit(kernel, lanes))
        self.rng = rng
        self.slots = len(blocks)

    def run(self) -> None:
        """From the first instruction to the last, one stretch between barriers after another."""
        while any((unit.at >= 0).any() for unit in self.units):
            self.rng.shuffle(self.units)
            for unit in self.units:
                unit.advance(self.memory, self.shared, self.parameters)
            self._meet()

    def _meet(self) -> None:
        """Let the blocks go on whose lanes all wait at one barrier."""
        at = np.concatenate([unit.at for unit in self.units])
        slot = np.concatenate([unit.lanes.slot for unit in self.units])
        low, high = np.full(self.slots, np.iinfo(np.int64).max), np.full(self.slots, -1)
        np.minimum.at(low, slot, at)
        np.maximum.at(high, slot, at)
        if (apart := np.flatnonzero(low != high)).size:
            block = np.concatenate([unit.lanes.block for unit in self.units])[slot == apart[0]][0]
            places = sorted(set(at[slot == apart[0]].tolist()))
            texts = ["the end" if k < 0 else str(self.kernel.program.blocks[k - 1].end) for k in places]
            raise Fault(f"The lanes of block {block} wait at different places: {'; '.join(texts)}.")
        for k in np.flatnonzero(high >= 0):
            self.shared.barrier(int(k))
        for unit in self.units:
            unit.waiting[:] = False


class _Unit:
    """Lanes that run together: whole warps, with the basic block at which each stands (−1: it is done)."""

    def __init__(self, kernel: Kernel, lanes: Lanes) -> None:
        self.kernel, self.lanes = kernel, lanes
        lanes.all = lanes.n
        self.at = np.zeros(lanes.n, np.int64)
        self.waiting = np.zeros(lanes.n, bool)
        # Registers begin with what nobody would expect.
        garbage = {1: np.bool_(False), **{bits: np.array(0xA5A5A5A5A5A5A5A5 % 2**bits, U[bits])[()] for bits in U}}
        self.registers = [garbage[bits] for bits in kernel.program.registers.values()]

    def advance(self, memory: Memory, shared: Shared, parameters: list[Any]) -> None:
        """Run until every lane is done or waits at a barrier."""
        blocks = self.kernel.program.blocks
        for _ in range(self.kernel.steps):
            ready = self.at if not self.waiting.any() else np.where(self.waiting, -1, self.at)
            here = ready >= 0
            if not here.any():
                return
            current = int(ready[here].min())
            chosen = ready == current
            index = None if chosen.all() else np.flatnonzero(chosen)
            lanes = self.lanes
            if index is not None:
                lanes = lanes.take(index)
                lanes.all = self.lanes.n
            self.kernel.executed[current] += 1
            taken = self.kernel.code(current)(self.registers, index, lanes, memory, shared, parameters)
            self._leave(current, blocks[current], index, lanes, taken)
        raise Fault(f"{self.kernel.program.name} does not come to an end.")

    def _leave(self, current: int, block: Any, index: np.ndarray | None, lanes: Lanes, taken: Any) -> None:
        where = slice(None) if index is None else index
        end = block.end
        name = None if end is None else end.parts[0]
        after: Any = current + 1
        if name == "bra":
            after = self.kernel.program.target(end)
        elif name in ("ret", "exit"):
            after = -1
        elif name in ("bar", "barrier"):
            if end.guard is not None or end.operands not in (("0",), ("0", str(lanes.threads))):
                raise PTXError(f"{end}: only the barrier of a whole block is known.")
            lanes.whole_warps(str(end))
            self.waiting[where] = True
        self.at[where] = after if taken is None else np.where(taken, after, current + 1)
