"""Emulated memory: every access is checked for permission, bounds and alignment, and every written byte is counted.

Global memory is an arena in which allocations lie between red zones; the tensors of a launch are copied there at the
same alignment and back afterwards. Shared memory is one stretch per block, in which a byte that a warp wrote or read
may not be written by another, nor what it wrote be read, before a barrier.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BASE = 0x7F0000000000
"""The address of the arena, which no memory of the process has."""
RED_ZONE = 512
_U = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
SECTOR = 32


class Fault(Exception):  # noqa: N818 (the word of the field)
    """What a GPU would answer with an error, or with a result by chance."""


@dataclass
class Allocation:
    """A stretch of the arena: [at, at + size), whose name says what lies there."""

    name: str
    at: int
    size: int


@dataclass
class Requests:
    """What warps asked of one allocation.

    Attributes:
        count: requests, an instruction of a warp being one.
        bytes: those that the lanes asked for, each lane's own.
        sectors: distinct sectors of 32 bytes of each request, summed over the requests.
        touched: the distinct sectors of each block, summed over the blocks.
    """

    count: int = 0
    bytes: int = 0
    sectors: int = 0
    touched: set[tuple[int, int]] | None = None


class Lanes:
    """The lanes that run an instruction: `tid` and `block` are arrays over them, `warps` numbers their warps."""

    def __init__(self, tid: np.ndarray, block: np.ndarray, slot: np.ndarray, grid: int, threads: int) -> None:
        self.tid, self.block, self.slot, self.grid, self.threads = tid, block, slot, grid, threads
        self.n = tid.size

    def take(self, index: np.ndarray) -> Lanes:
        """Some of the lanes."""
        return Lanes(self.tid[index], self.block[index], self.slot[index], self.grid, self.threads)

    @property
    def warps(self) -> np.ndarray:
        """The number of each lane's warp within the blocks that run together."""
        return self.slot * (self.threads // 32) + (self.tid >> 5)

    def whole_warps(self, text: str, members: np.ndarray | None = None) -> None:
        """Raises Fault unless the lanes are whole warps in order, and named so: some instructions need all 32."""
        if members is not None and (members != np.uint32(0xFFFFFFFF)).any():
            raise Fault(f"{text}: not all lanes of the warp are named.")
        if self.n % 32 or (self.tid.reshape(-1, 32) & 31 != np.arange(32)).any():
            raise Fault(f"{text}: a warp has diverged here, and all its lanes are needed.")


class Memory:
    """Global memory of one launch.

    Args:
        size: bytes of all allocations with their red zones; `Memory.needed` says how many.
        sectors: requests are recorded in `requests`, by (allocation, "load" or "store").
    """

    def __init__(self, size: int, *, sectors: bool = False) -> None:
        size = (size + 7) // 8 * 8 + 2 * RED_ZONE
        self.bytes = np.full(size, 0xA5, np.uint8)
        self.views = {width: self.bytes.view(kind) for width, kind in _U.items()}
        self.permission = np.zeros(size, np.uint8)  # 1: to read, 2: to write
        self.written = np.zeros(size, np.uint8)
        self.allocations: list[Allocation] = []
        self.loaded = 0  # bytes that lanes asked for, each lane's own
        self.requests: dict[tuple[str, str], Requests] | None = {} if sectors else None
        self._top = RED_ZONE

    @staticmethod
    def needed(sizes: list[int]) -> int:
        """Bytes of an arena for allocations of these sizes."""
        return sum(size + 3 * RED_ZONE for size in sizes)

    def copy(self) -> Memory:
        """The same allocations with the same content, not yet written to."""
        other = Memory(0, sectors=self.requests is not None)
        other.bytes = self.bytes.copy()
        other.views = {width: other.bytes.view(kind) for width, kind in _U.items()}
        other.permission, other.allocations, other._top = self.permission, self.allocations, self._top
        other.written = np.zeros_like(self.written)
        return other

    def allocate(self, name: str, content: np.ndarray, skew: int, *, writable: bool) -> int:
        """Copy bytes to a new allocation, `skew` bytes after a multiple of 256; returns its address."""
        at = -(-self._top // 256) * 256 + skew
        end = at + content.size
        self.bytes[at:end] = content
        self.permission[at:end] = 3 if writable else 1
        self.allocations.append(Allocation(name, at, content.size))
        self._top = end + RED_ZONE
        return BASE + at

    def content(self, address: int, size: int) -> np.ndarray:
        """The bytes at an address."""
        return self.bytes[address - BASE : address - BASE + size]

    def writes(self, address: int, size: int) -> np.ndarray:
        """How often each byte was stored to, modulo 256; atomic operations are not counted."""
        return self.written[address - BASE : address - BASE + size]

    def _describe(self, at: int) -> str:
        near = min(self.allocations, key=lambda a: max(a.at - at, at - (a.at + a.size - 1), 0), default=None)
        if near is None:
            return f"{at + BASE:#x}"
        return f"byte {at - near.at} of the {near.size} of {near.name} ({at + BASE:#x})"

    def _fault(self, text: str, lanes: Lanes, lane: int, at: int, width: int, problem: str) -> None:
        raise Fault(
            f"{text}: thread {lanes.tid[lane]} of block {lanes.block[lane]} {problem} {width} bytes at "
            f"{self._describe(int(at))}."
        )

    def _index(self, address, offset: int, mask, width: int, need: int, lanes: Lanes, text: str) -> np.ndarray:
        """Checked positions in the arena, one per lane or one for all; those of lanes that are masked out are 0."""
        at = (np.asarray(address) + np.uint64(offset % 2**64) - np.uint64(BASE)).astype(np.int64)
        if mask is not None:
            at = np.where(mask, at, np.int64(0))
        live = at if mask is None else at[np.broadcast_to(mask, at.shape)]
        where = np.atleast_1d(live)
        if not where.size:
            return at
        lane = np.arange(where.size) if mask is None else np.flatnonzero(np.broadcast_to(mask, at.shape))
        verb = "reads" if need == 1 else "writes"
        outside = (where < 0) | (where > self.bytes.size - width)
        inside = np.where(outside, 0, where)
        allowed = self.permission[inside] & self.permission[inside + (width - 1)] & need
        if (bad := outside | (allowed == 0)).any():
            k = int(np.flatnonzero(bad)[0])
            self._fault(text, lanes, int(lane[k]), where[k], width, f"{verb} where it may not:")
        if (where & (width - 1)).any():
            k = int(np.flatnonzero(where & (width - 1))[0])
            self._fault(text, lanes, int(lane[k]), where[k], width, f"{verb} misaligned:")
        if need == 1:
            self.loaded += width * (lanes.n if at.ndim == 0 else where.size)
        if self.requests is not None:
            self._record(at, mask, width, "load" if need == 1 else "store", lanes)
        return at

    def _record(self, at: np.ndarray, mask, width: int, kind: str, lanes: Lanes) -> None:
        live = np.ones(lanes.n, bool) if mask is None else np.broadcast_to(mask, (lanes.n,))
        where, warp, block = np.broadcast_to(at, (lanes.n,))[live], lanes.warps[live], lanes.block[live]
        starts = np.array([a.at for a in self.allocations])
        owner = np.searchsorted(starts, where, side="right") - 1
        for k in np.unique(owner):
            name = self.allocations[k].name
            found = self.requests.setdefault((name, kind), Requests(touched=set()))
            mine = owner == k
            ends = [(where[mine] + shift) // SECTOR for shift in range(0, width, SECTOR)]
            ends.append((where[mine] + width - 1) // SECTOR)
            pairs = np.unique(np.concatenate([np.stack([warp[mine], end], 1) for end in ends]), axis=0)
            found.count += np.unique(warp[mine]).size
            found.bytes += int(mine.sum()) * width
            found.sectors += len(pairs)
            for end in ends:
                found.touched.update(zip(block[mine].tolist(), end.tolist(), strict=True))

    def load(self, address, offset: int, mask, size: int, count: int, lanes: Lanes, text: str) -> list[np.ndarray]:
        """`count` values of `size` bytes of each lane; one value for all where the address is one for all."""
        at = self._index(address, offset, mask, size * count, 1, lanes, text) // size
        return [self.views[size][at + k] for k in range(count)]

    def store(self, address, offset: int, mask, size: int, values: list, lanes: Lanes, text: str) -> None:
        """Store each lane's values; of lanes that store to one address, the last counts."""
        width = size * len(values)
        at = np.broadcast_to(self._index(address, offset, mask, width, 2, lanes, text), (lanes.n,))
        live = slice(None) if mask is None else np.broadcast_to(mask, (lanes.n,))
        at = at[live]
        for k, value in enumerate(values):
            self.views[size][at // size + k] = np.broadcast_to(value, (lanes.n,))[live]
        for k in range(width):
            np.add.at(self.written, at + k, np.uint8(1))

    def atomic(self, operation: str, kind, address, offset: int, mask, values: list, lanes: Lanes, text: str):
        """Read, change and write back, one lane after another; returns what each lane read."""
        size = np.dtype(kind).itemsize
        at = np.broadcast_to(self._index(address, offset, mask, size, 2, lanes, text), (lanes.n,))
        live = np.arange(lanes.n) if mask is None else np.flatnonzero(np.broadcast_to(mask, (lanes.n,)))
        old = np.zeros(lanes.n, kind)
        memory = self.views[size].view(kind)
        given = [np.broadcast_to(value, (lanes.n,)) for value in values]
        for lane in live:
            place = at[lane] // size
            old[lane] = before = memory[place]
            first = given[0][lane].view(kind)
            memory[place] = {
                "add": lambda a, b, lane: a + b,
                "min": lambda a, b, lane: min(a, b),
                "max": lambda a, b, lane: max(a, b),
                "and": lambda a, b, lane: a & b,
                "or": lambda a, b, lane: a | b,
                "xor": lambda a, b, lane: a ^ b,
                "exch": lambda a, b, lane: b,
                "inc": lambda a, b, lane: kind(0) if a >= b else a + kind(1),
                "cas": lambda a, b, lane: given[1][lane].view(kind) if a == b else a,
            }[operation](before, first, lane)
        return old.view(_U[size])


class Shared:
    """Shared memory of the blocks that run together, `size` bytes each."""

    def __init__(self, size: int, blocks: int) -> None:
        self.size = size
        self.stride = (size + 127) // 128 * 128
        self.bytes = np.full(self.stride * blocks, 0x5A, np.uint8)
        self.views = {width: self.bytes.view(kind) for width, kind in _U.items()}
        # Which warp of a block wrote and read each byte since the last barrier; 0: none, 255: several.
        self.writer = np.zeros(self.bytes.size, np.uint8)
        self.reader = np.zeros(self.bytes.size, np.uint8)

    def barrier(self, slot: int) -> None:
        """All warps of a block have met: what they wrote may be read."""
        span = slice(slot * self.stride, (slot + 1) * self.stride)
        self.writer[span] = 0
        self.reader[span] = 0

    def _index(self, address, offset: int, mask, width: int, lanes: Lanes, text: str, write: bool):
        """Checked positions of the lanes that are not masked out, and which lanes these are."""
        live = np.arange(lanes.n) if mask is None else np.flatnonzero(np.broadcast_to(mask, (lanes.n,)))
        at = np.broadcast_to(np.asarray(address).astype(np.int64) + offset, (lanes.n,))[live]
        problem = None
        if (bad := (at < 0) | (at + width > self.size)).any():
            problem = f"beyond the {self.size} bytes of shared memory"
        elif (bad := at % width != 0).any():
            problem = "misaligned in shared memory"
        if problem is None:
            at = at + lanes.slot[live] * self.stride
            every = at[:, None] + np.arange(width)
            warp = ((lanes.tid[live] >> 5) + 1).astype(np.uint8)[:, None]
            writer, reader = self.writer[every], self.reader[every]
            race = (writer != 0) & (writer != warp)
            if write:
                race |= (reader != 0) & (reader != warp)
                self.writer[every] = warp
            else:
                self.reader[every] = np.where((reader == 0) | (reader == warp), warp, np.uint8(255))
            if not race.any():
                return at, live
            bad, problem = race.any(axis=1), "in shared memory that another warp uses, without a barrier between,"
        k = int(np.flatnonzero(bad)[0])
        lane = live[k]
        raise Fault(
            f"{text}: thread {lanes.tid[lane]} of block {lanes.block[lane]} {'writes' if write else 'reads'} {problem} "
            f"at {int(at[k]) % max(self.stride, 1)}."
        )

    def load(self, address, offset: int, mask, size: int, count: int, lanes: Lanes, text: str) -> list[np.ndarray]:
        """`count` values of `size` bytes of each lane."""
        at, live = self._index(address, offset, mask, size * count, lanes, text, write=False)
        found = []
        for k in range(count):
            value = np.zeros(lanes.n, _U[size])
            value[live] = self.views[size][at // size + k]
            found.append(value)
        return found

    def store(self, address, offset: int, mask, size: int, values: list, lanes: Lanes, text: str) -> None:
        """Store each lane's values."""
        at, live = self._index(address, offset, mask, size * len(values), lanes, text, write=True)
        for k, value in enumerate(values):
            self.views[size][at // size + k] = np.broadcast_to(value, (lanes.n,))[live]

    def _rows(self, address, matrices: int, lanes: Lanes, text: str, write: bool) -> np.ndarray:
        """Positions [warp, matrix, row] of the 16-byte rows, whose addresses lanes 8·matrix + row give."""
        lanes.whole_warps(text)
        giving = np.tile(np.arange(32) < 8 * matrices, lanes.n // 32)
        at, _ = self._index(address, 0, giving, 16, lanes, text, write)
        return at.reshape(-1, matrices, 8)

    def load_matrices(self, address, count: int, transposed: bool, lanes: Lanes, text: str) -> list[np.ndarray]:
        """ldmatrix: of each 8×8 matrix of 16-bit values, two neighbours of a row (or of a column) for every lane."""
        rows, lane, found = self._rows(address, count, lanes, text, write=False), np.arange(32), []
        for k in range(count):
            if transposed:
                low, high = (self.views[2][rows[:, k, 2 * (lane % 4) + h] // 2 + lane // 4] for h in range(2))
                found.append((low.astype(np.uint32) | (high.astype(np.uint32) << np.uint32(16))).reshape(-1))
            else:
                found.append(self.views[4][rows[:, k, lane // 4] // 4 + lane % 4].reshape(-1))
        return found

    def store_matrices(self, address, values: list, transposed: bool, lanes: Lanes, text: str) -> None:
        """stmatrix, the inverse of `load_matrices`."""
        rows, lane = self._rows(address, len(values), lanes, text, write=True), np.arange(32)
        for k, value in enumerate(values):
            value = np.broadcast_to(value, (lanes.n,)).reshape(-1, 32)
            if transposed:
                for h in range(2):
                    half = (value >> np.uint32(16 * h)).astype(np.uint16)
                    self.views[2][rows[:, k, 2 * (lane % 4) + h] // 2 + lane // 4] = half
            else:
                self.views[4][rows[:, k, lane // 4] // 4 + lane % 4] = value
