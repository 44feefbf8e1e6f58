"""The calls by which a process reads and changes the disk, wrapped, so that a hook sees each before it happens.

Only files below one folder are watched; everything else passes. Python's own files (`open`, `Path.read_bytes`) are
watched too, since they do not go through `os.read`. What a library does in C is not seen: `powerloss.record` compares
what it saw with the disk, and fails where something else wrote.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

WRITES = ("write", "pwrite")
SYNCS = ("fsync", "fdatasync")
READS = ("read", "pread")
NAMES = ("mkdir", "rmdir", "unlink", "replace", "link", "symlink")
"""Calls that change a folder; `rename` and `remove` are seen as `replace` and `unlink`, which do the same here."""
CHANGES = ("create", *WRITES, "truncate", *NAMES)
"""`create` is an `open` that makes a file, `truncate` one that empties it and the call of that name."""


@dataclass(frozen=True)
class Call:
    """One call.

    Attributes:
        name: of `CHANGES`, `SYNCS`, `READS` or "mark".
        path: the absolute path of the file or folder.
        target: where a `replace` or `link` leads.
        data: what is written.
        offset: where.
        size: of a `truncate`; the number of a `mark`.
    """

    name: str
    path: str
    target: str = ""
    data: bytes = b""
    offset: int = 0
    size: int = 0


class Run(Protocol):
    """Does the call; of a write the first `limit` bytes."""

    def __call__(self, limit: int | None = None) -> Any: ...


Hook = Callable[[Call, Run], Any]

_IN_THE_KERNEL = ("_USE_CP_SENDFILE", "_USE_CP_COPY_FILE_RANGE")
"""By which `shutil` copies without a call that is watched."""

_hook: Hook | None = None


def mark(number: int) -> None:
    """Tell the hook that this much is promised to be safe from here on; without a hook it does nothing."""
    if _hook is not None:
        _hook(Call("mark", "", size=number), lambda limit=None: None)


@contextlib.contextmanager
def watched(root: Path, hook: Hook) -> Iterator[None]:
    """Give every call that concerns a file below `root`, inside the block, to the hook."""
    global _hook
    wrapper = _Wrapper(os.path.realpath(root) + os.sep, hook)
    saved = {name: getattr(os, name) for name in wrapper.functions() if hasattr(os, name)}
    opens = io.open, builtins.open
    fast = {name: getattr(shutil, name) for name in _IN_THE_KERNEL if hasattr(shutil, name)}
    try:
        _hook = hook
        for name in saved:
            setattr(os, name, wrapper.functions()[name])
        io.open = builtins.open = wrapper.open_file
        for name in fast:
            setattr(shutil, name, False)
        yield
    finally:
        _hook = None
        for name, function in saved.items():
            setattr(os, name, function)
        io.open, builtins.open = opens
        for name, value in fast.items():
            setattr(shutil, name, value)


def without_flushing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flushing guards against a power cut, which a kill is not, and would take most of the time."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.setattr(os, "fdatasync", lambda fd: None)


class _Wrapper:
    def __init__(self, root: str, hook: Hook) -> None:
        self._root, self._hook = root, hook
        self._real = {name: getattr(os, name) for name in self.functions() if hasattr(os, name)}
        self._open = io.open

    def functions(self) -> dict[str, Callable[..., Any]]:
        return {
            "open": self.open, "write": self.write, "pwrite": self.pwrite, "ftruncate": self.ftruncate,
            "truncate": self.truncate, "fsync": self.fsync, "fdatasync": self.fdatasync, "read": self.read,
            "pread": self.pread, "mkdir": self.mkdir, "rmdir": self.rmdir, "unlink": self.unlink,
            "remove": self.unlink, "replace": self.replace, "rename": self.replace, "link": self.link,
            "symlink": self.symlink,
        }  # fmt: skip

    # Which file

    def _path(self, path: Any, dir_fd: int | None = None) -> str:
        if isinstance(path, int):
            return self.of(path)
        text = os.fsdecode(path)
        if dir_fd is not None:
            text = f"{self.of(dir_fd)}{os.sep}{text}"
        path = Path(text).absolute()
        return str(path.parent.resolve() / path.name)  # the last part may be a link that is removed

    def of(self, fd: int) -> str:
        """The path of an open file."""
        try:
            return str(Path(f"/proc/self/fd/{fd}").readlink())
        except OSError:
            return ""

    def _seen(self, call: Call, run: Run) -> Any:
        inside = call.path.startswith(self._root) or call.target.startswith(self._root)
        return self._hook(call, run) if inside or call.path + os.sep == self._root else run()

    # Files

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        def run(limit: int | None = None) -> int:
            return self._real["open"](path, flags, mode, dir_fd=dir_fd)

        name = self._path(path, dir_fd)
        if flags & os.O_CREAT and not os.path.lexists(name):
            return self._seen(Call("create", name), run)
        if flags & os.O_TRUNC:
            return self._seen(Call("truncate", name), run)
        return run()

    def write(self, fd: int, data: Any) -> int:
        view = memoryview(data).cast("B")
        if not self.of(fd).startswith(self._root):
            return self._real["write"](fd, view)
        call = Call("write", self.of(fd), data=bytes(view), offset=os.lseek(fd, 0, os.SEEK_CUR))
        return self._hook(call, lambda limit=None: self._real["write"](fd, view[:limit]))

    def pwrite(self, fd: int, data: Any, offset: int) -> int:
        view = memoryview(data).cast("B")
        call = Call("pwrite", self.of(fd), data=bytes(view), offset=offset)
        return self._seen(call, lambda limit=None: self._real["pwrite"](fd, view[:limit], offset))

    def ftruncate(self, fd: int, size: int) -> None:
        self._seen(Call("truncate", self.of(fd), size=size), lambda limit=None: self._real["ftruncate"](fd, size))

    def truncate(self, path: Any, size: int) -> None:
        self._seen(Call("truncate", self._path(path), size=size), lambda limit=None: self._real["truncate"](path, size))

    def fsync(self, fd: int) -> None:
        self._seen(Call("fsync", self.of(fd)), lambda limit=None: self._real["fsync"](fd))

    def fdatasync(self, fd: int) -> None:
        self._seen(Call("fdatasync", self.of(fd)), lambda limit=None: self._real["fdatasync"](fd))

    def read(self, fd: int, count: int) -> bytes:
        return self._seen(Call("read", self.of(fd), size=count), lambda limit=None: self._real["read"](fd, count))

    def pread(self, fd: int, count: int, offset: int) -> bytes:
        call = Call("pread", self.of(fd), size=count, offset=offset)
        return self._seen(call, lambda limit=None: self._real["pread"](fd, count, offset))

    # Names

    def mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        call = Call("mkdir", self._path(path, dir_fd))
        self._seen(call, lambda limit=None: self._real["mkdir"](path, mode, dir_fd=dir_fd))

    def rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        call = Call("rmdir", self._path(path, dir_fd))
        self._seen(call, lambda limit=None: self._real["rmdir"](path, dir_fd=dir_fd))

    def unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        call = Call("unlink", self._path(path, dir_fd))
        self._seen(call, lambda limit=None: self._real["unlink"](path, dir_fd=dir_fd))

    def replace(self, source: Any, target: Any, **folders: Any) -> None:
        call = Call("replace", self._path(source), self._path(target))
        self._seen(call, lambda limit=None: self._real["replace"](source, target, **folders))

    def link(self, source: Any, target: Any, **options: Any) -> None:
        call = Call("link", self._path(source), self._path(target))
        self._seen(call, lambda limit=None: self._real["link"](source, target, **options))

    def symlink(self, source: Any, target: Any, *arguments: Any, **options: Any) -> None:
        call = Call("symlink", self._path(target))
        self._seen(call, lambda limit=None: self._real["symlink"](source, target, *arguments, **options))

    # Python's files

    def open_file(self, file: Any, mode: str = "r", buffering: int = -1, *arguments: Any, **options: Any) -> Any:
        """`open`, whose file asks the hook."""
        path = self._path(file)
        if not path.startswith(self._root) or "b" not in mode:
            if path.startswith(self._root) and set(mode) & set("wax+"):
                raise AssertionError(f"{path} is written as text, which is not watched.")
            return self._open(file, mode, buffering, *arguments, **options)
        raw = _File(file, mode, self, path)
        if buffering == 0:
            return raw
        return io.BufferedReader(raw) if raw.readable() else io.BufferedWriter(raw)

    def seen(self, call: Call, run: Run) -> Any:
        """Ask the hook."""
        return self._seen(call, run)


class _File(io.FileIO):
    def __init__(self, file: Any, mode: str, wrapper: _Wrapper, path: str) -> None:
        self._wrapper, self._path = wrapper, path
        opener = wrapper.open
        super().__init__(file, mode.replace("b", ""), opener=lambda name, flags: opener(name, flags, 0o666))

    def _ask(self, size: int, run: Run) -> Any:
        return self._wrapper.seen(Call("read", self._path, size=size), run)

    def read(self, size: int | None = -1) -> bytes:
        parent = super().read
        return self._ask(size or -1, lambda limit=None: parent(-1 if size is None else size))

    def readall(self) -> bytes:
        parent = super().readall
        return self._ask(-1, lambda limit=None: parent())

    def readinto(self, buffer: Any) -> int:
        parent = super().readinto
        return self._ask(len(buffer), lambda limit=None: parent(buffer))

    def write(self, data: Any) -> int:
        parent, view = super().write, memoryview(data).cast("B")
        call = Call("write", self._path, data=bytes(view), offset=self.tell())
        return self._wrapper.seen(call, lambda limit=None: parent(view[:limit]))
