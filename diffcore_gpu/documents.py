"""Reading JSON, TOML and small files that anyone may have written: bounded, from regular files only.

A file of settings or results is input like any other. It may be a pipe that never answers, a link to a device without
end, a hundred megabytes of brackets, or a number of a million digits. What reads one asks here, and gets the content or
an `OSError` or a `ValueError` with one plain clause, which its caller turns into a sentence that names the mend.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Any, NoReturn

from diffcore_gpu.errors import clause

MAX_DOCUMENT = 64 << 20
"""Bytes of a JSON or TOML file, unless the caller knows better."""
MAX_DEPTH = 64
"""Objects and lists within each other."""
MAX_DIGITS = 4000
"""Of a number: what Python converts without a complaint."""

_BLOCK = 1 << 20  # bytes of one read
_MARKS = re.compile(
    r'"[^"\\]*(?:\\.[^"\\]*)*"|(?P<opens>[\[{])|(?P<closes>[\]}])', re.DOTALL
)  # strings are stepped over


def open_regular(path: Path, root: Path | None = None) -> int:
    """Open a regular file for reading and give the descriptor, which is not inherited; it never waits for a pipe.

    Args:
        path: the file.
        root: the folder that it must lie in once links are followed (see `inside`); None: anywhere.

    Raises:
        OSError: the system refuses.
        ValueError: it is a folder, a pipe, a device, …, or a link leads out of `root`.
    """
    if root is not None and path.is_symlink() and not inside(path, root):
        raise ValueError("is a link to a file outside its folder; put the file itself there.")
    # A pipe would wait for its writer; Windows has no such files, and would turn each byte 13 into none.
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        raise ValueError("is not a file.")
    return fd


def inside(path: Path, root: Path) -> bool:
    """Whether a path leads into `root` once its links are followed, or into the blobs that `root` is a snapshot of.

    The cache of the Hugging Face Hub keeps a repository as `snapshots/REVISION` with links into `blobs` beside it.
    """
    try:
        target = path.resolve()
    except RuntimeError as error:  # a loop of links, before Python 3.13
        raise ValueError("is a link to itself.") from error
    folder = root.resolve()
    if target.is_relative_to(folder):
        return True
    snapshots = next((above for above in (folder, *folder.parents) if above.parent.name == "snapshots"), None)
    return snapshots is not None and target.is_relative_to(snapshots.parent.parent / "blobs")


def read_regular(path: Path, limit: int = MAX_DOCUMENT, root: Path | None = None) -> bytearray:
    """The bytes of a regular file of at most `limit` bytes; raises as `open_regular`, and ValueError where it is more.

    Args:
        path: the file.
        limit: bytes.
        root: as in `open_regular`.
    """
    fd = open_regular(path, root)
    try:
        size = os.fstat(fd).st_size
        raw = bytearray()
        while size <= limit and len(raw) <= limit and (more := os.read(fd, min(_BLOCK, limit + 1 - len(raw)))):
            raw += more
    finally:
        os.close(fd)
    if max(size, len(raw)) > limit:
        raise ValueError(f"is too large: {max(size, len(raw))} bytes, where {limit} are the most.")
    return raw


def parse_json(raw: bytes | bytearray | str, *, constants: bool = False) -> Any:
    """JSON-able values from text that anyone may have written.

    Args:
        raw: UTF-8.
        constants: whether `NaN` and `Infinity`, which are not JSON but Python's, are taken.

    Raises:
        ValueError: it is not JSON, a key occurs twice, or it is deeper or has longer numbers than this module allows.
    """
    try:
        text = raw if isinstance(raw, str) else raw.decode("utf-8")
        _check_depth(text)
        refuse = {} if constants else {"parse_constant": _refuse_constant}
        return json.loads(text, object_pairs_hook=no_duplicates, parse_int=_int, **refuse)
    except RecursionError:
        raise ValueError("is nested too deeply.") from None


def parse_toml(raw: bytes | bytearray | str) -> dict[str, Any]:
    """A TOML document; ValueError where it is none, or nested too deeply."""
    try:
        return tomllib.loads(raw if isinstance(raw, str) else raw.decode("utf-8"))
    except RecursionError:
        raise ValueError("is nested too deeply.") from None


def read_json(path: Path, limit: int = MAX_DOCUMENT, root: Path | None = None) -> Any:
    """`parse_json` of `read_regular`."""
    return parse_json(read_regular(path, limit, root))


def no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object from its keys and values, for `json.loads`; ValueError if a key occurs twice."""
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice.")
    return result


def why(error: OSError | ValueError) -> str:
    """The clause of an error of this module, such as `Permission denied`, for the end of a sentence."""
    return error.strerror or clause(error) if isinstance(error, OSError) else clause(error)


def _check_depth(text: str) -> None:
    """Before the parser's own recursion, whose bound differs from Python to Python."""
    depth = 0
    if text.count("[") + text.count("{") > MAX_DEPTH:
        for mark in _MARKS.finditer(text):
            if mark.lastgroup == "opens":
                depth += 1
                if depth > MAX_DEPTH:
                    raise ValueError("is nested too deeply.")
            elif mark.lastgroup == "closes":
                depth -= 1


def _int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number has {len(digits)} digits.")
    return int(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON.")
