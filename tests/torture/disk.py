"""What a power cut may leave of a sequence of calls: the model of a disk.

**What the model takes for granted.** A write changes no byte outside its range (SQLite's "powersafe overwrite",
https://sqlite.org/psow.html). `fsync` and `fdatasync` of a file make its bytes and its size safe; `fsync` of a folder
makes the entries in it safe, and only that: a file's own flush does not keep its name, though ext4, XFS and btrfs keep
the name of a new file with it. What is safe never changes. A rename is all or nothing, as the journals of ext4, XFS,
btrfs and NTFS make it, and is safe once either of its folders has been flushed.

**What may happen to everything else, each for itself.** A write or truncation may be kept, lost, or torn: of the
sectors (512 bytes) or pages (4096) that it touches, any may be new and any old. A file may have grown before its bytes
came: then there are zeros, as ext4 in its ordered mode leaves them, or garbage, as SQLite assumes
(https://sqlite.org/atomiccommit.html, 2.0). Writes to one file or to several are kept in any order. Entries of folders:

- `ordered`: in each folder those that are kept are the first ones, as a journal of metadata replays them;
- `unordered`: any of them, as POSIX allows and as ALICE found it among six file systems (Pillai,
  Chidambaram, Alagappan, Al-Kiswany, Arpaci-Dusseau and Arpaci-Dusseau, "All File Systems Are Not Created Equal", OSDI
  2014); a rename between folders may also leave the old name beside the new one.

Between folders, and between entries and bytes, there is no order in either: the empty file under its final name, of
which ext4 with delayed allocation was known, is among the states. What is not modelled: a disk that lies about its
flush, sectors that cannot be read afterwards, and a file system that damages itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.torture.calls import SYNCS, WRITES, Call

Model = Literal["ordered", "unordered"]
MODELS: tuple[Model, ...] = ("ordered", "unordered")

_ROOT = 0


@dataclass(frozen=True)
class Entry:
    """A change of folders: (folder, name, what stands there afterwards, None: nothing) for each place."""

    places: tuple[tuple[int, str, int | None], ...]

    @property
    def folders(self) -> tuple[int, ...]:
        """The folders that it changes."""
        return tuple(folder for folder, _, _ in self.places)


@dataclass(frozen=True)
class Data:
    """A write of `data` at `offset`, or, where `data` is None, a truncation to `offset` bytes."""

    file: int
    offset: int
    data: bytes | None


@dataclass(frozen=True)
class Sync:
    """A flush of a file or folder."""

    node: int
    name: str


@dataclass(frozen=True)
class Mark:
    """From here on so much is promised to be safe."""

    number: int


Event = Entry | Data | Sync | Mark


@dataclass
class Log:
    """The calls of one run, by the files and folders that they concern, which keep their numbers when renamed.

    Attributes:
        base: of each file that was there before, its bytes; of each folder, its entries.
        events: the calls.
    """

    base: dict[int, bytes | dict[str, int]] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    @classmethod
    def of(cls, before: Path, calls: Iterable[Call], root: Path) -> Log:
        """From the calls that were seen below `root`, which was like `before` at first."""
        log = cls()
        live = _Live(log, before)
        prefix = os.path.realpath(root)
        for call in calls:
            if call.name == "mark":
                log.events.append(Mark(call.size))
            elif (call.target or call.path).startswith(prefix + os.sep) or call.path == prefix:
                live.see(call, lambda path: os.path.relpath(path, prefix))
        return log


class _Live:
    """The names as they stand while a log is made."""

    def __init__(self, log: Log, before: Path) -> None:
        self._log, self._nodes, self._count = log, {".": _ROOT}, 1
        self._add_base(before, ".")

    def _add_base(self, folder: Path, name: str) -> None:
        entries: dict[str, int] = {}
        self._log.base[self._nodes[name]] = entries
        for path in sorted(folder.iterdir()):
            inner = str(Path(name) / path.name)
            entries[path.name] = self._new(inner)
            if path.is_dir():
                self._add_base(path, inner)
            else:
                self._log.base[entries[path.name]] = path.read_bytes()

    def _new(self, name: str) -> int:
        self._nodes[name] = self._count
        self._count += 1
        return self._nodes[name]

    def _place(self, name: str, node: int | None) -> tuple[int, str, int | None]:
        folder, last = os.path.split(name)
        return self._nodes[folder or "."], last, node

    def see(self, call: Call, relative: Callable[[str], str]) -> None:
        """Take a call up into the log."""
        name, events = relative(call.path), self._log.events
        if call.name in ("create", "mkdir"):
            node = self._new(name)
            self._log.base[node] = b"" if call.name == "create" else {}
            events.append(Entry((self._place(name, node),)))
        elif call.name in WRITES:
            events.append(Data(self._nodes[name], call.offset, call.data))
        elif call.name == "truncate":
            events.append(Data(self._nodes[name], call.size, None))
        elif call.name in ("unlink", "rmdir"):
            del self._nodes[name]
            events.append(Entry((self._place(name, None),)))
        elif call.name == "replace":
            self._rename(name, relative(call.target))
        elif call.name == "link":
            target = relative(call.target)
            if name not in self._nodes:  # a file of another store, which has long been safe
                self._log.base[self._new(name)] = Path(call.path).read_bytes()
            self._nodes[target] = self._nodes[name]
            events.append(Entry((self._place(target, self._nodes[name]),)))
        elif call.name in SYNCS:
            events.append(Sync(self._nodes[name], name))
        elif call.name == "symlink":
            raise AssertionError(f"{name}: links are not modelled.")

    def _rename(self, name: str, target: str) -> None:
        node = self._nodes.pop(name)
        inside = [inner for inner in self._nodes if inner.startswith(name + os.sep)]
        for inner in inside:
            self._nodes[target + inner[len(name) :]] = self._nodes.pop(inner)
        self._nodes[target] = node
        self._log.events.append(Entry((self._place(target, node), self._place(name, None))))


def pending(log: Log, point: int, forgotten: int | None = None) -> list[int]:
    """The entries and data among the first `point` events that are not safe.

    Args:
        log: of the run.
        point: how many events came before the power was cut.
        forgotten: the number of a flush that is taken not to have been made.
    """
    waiting: list[int] = []
    for index, event in enumerate(log.events[:point]):
        if isinstance(event, Sync):
            if index != forgotten:
                waiting = [other for other in waiting if not _covers(event, log.events[other])]
        elif not isinstance(event, Mark):
            waiting.append(index)
    return waiting


def _covers(sync: Sync, event: Event) -> bool:
    return sync.node in event.folders if isinstance(event, Entry) else event.file == sync.node


def closed(log: Log, point: int, kept: Collection[int], waiting: Collection[int]) -> set[int]:
    """What `ordered` keeps where `kept` is: in each folder all entries before one that is there are there too."""
    result = set(kept)
    reached: set[int] = set()
    for index in range(point - 1, -1, -1):
        event = log.events[index]
        if not isinstance(event, Entry):
            continue
        if index in result or index not in waiting or reached & set(event.folders):
            reached |= set(event.folders)
            if index in waiting:
                result.add(index)
    return result


@dataclass(frozen=True)
class Torn:
    """How much of a write is there: blocks of `size` bytes, by their numbers in the file; the rest as `fill` says."""

    blocks: frozenset[int]
    size: int
    fill: bytes


def state(
    log: Log,
    point: int,
    lost: Collection[int],
    torn: Mapping[int, Torn],
    split: Collection[int] = (),
) -> dict[str, bytes | None]:
    """The files below the root, with their bytes, and the folders, with None.

    Args:
        log: of the run.
        point: how many events came before the power was cut.
        lost: of them, those that left no trace.
        torn: of them, writes that were kept in part.
        split: of them, renames whose old name is still there.
    """
    content = {node: bytearray(value) for node, value in log.base.items() if isinstance(value, bytes)}
    folders = {node: dict(value) for node, value in log.base.items() if isinstance(value, dict)}
    for index, event in enumerate(log.events[:point]):
        if index in lost:
            continue
        if isinstance(event, Entry):
            for folder, name, node in event.places[: 1 if index in split else None]:
                if node is None:
                    folders[folder].pop(name, None)
                else:
                    folders[folder][name] = node
        elif isinstance(event, Data):
            _apply(content[event.file], event, torn.get(index))
    found: dict[str, bytes | None] = {}
    _walk(folders, content, _ROOT, "", found)
    return found


def _walk(
    folders: Mapping[int, dict[str, int]],
    content: Mapping[int, bytearray],
    folder: int,
    name: str,
    found: dict[str, bytes | None],
) -> None:
    for entry, node in folders[folder].items():
        if node in folders:
            found[name + entry] = None
            _walk(folders, content, node, f"{name}{entry}/", found)
        else:
            found[name + entry] = bytes(content[node])


def _apply(content: bytearray, event: Data, torn: Torn | None) -> None:
    if event.data is None:
        del content[event.offset :]
        content.extend(bytes(event.offset - len(content)))
        return
    end = event.offset + len(event.data)
    fill = b"\0" if torn is None else torn.fill
    content.extend(bytes(max(0, event.offset - len(content))))
    content.extend(fill * (end - len(content)))
    if torn is None:
        content[event.offset : end] = event.data
        return
    for block in torn.blocks:
        begin, stop = max(event.offset, block * torn.size), min(end, (block + 1) * torn.size)
        content[begin:stop] = event.data[begin - event.offset : stop - event.offset]


def write_out(files: Mapping[str, bytes | None], folder: Path) -> None:
    """Make a state in an empty or missing folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        path = folder / name
        if data is None:
            path.mkdir(exist_ok=True)
        else:
            path.write_bytes(data)
