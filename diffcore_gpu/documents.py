"""Reading JSON, TOML and small files that anyone may have written: bounded, from regular files only.

A file of settings or results is input like any other. It may be a pipe that never answers, a link to a device without
end, a hundred megabytes of brackets, or a number of a million digits. What reads one asks here, and gets the content or
an `OSError` or a `ValueError` with one plain clause, which its caller turns into a sentence that names the mend.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Any, NoReturn

from diffcore_gpu.errors import clause

MAX_DOCUMENT = 64 << 20
"""Bytes of a JSON file, unless the caller knows better."""
MAX_SETTINGS = 1 << 20
"""Bytes of a file that a person writes, such as one of TOML."""
MAX_DEPTH = 64
"""Objects and lists within each other."""
MAX_DIGITS = 4000
"""Of a number: what Python converts without a complaint."""

# Strings are stepped over as a whole, also one that does not end: a search that tried each quotation mark in it anew
# would take the square of its length. Nothing in these is tried twice (`*+`).
_JSON_MARKS = re.compile(r'"(?:[^"\\]|\\.)*+"?|(?P<opens>[\[{])|(?P<closes>[\]}])', re.DOTALL)
_TOML_MARKS = re.compile(
    r"""
    \#[^\n]*+
    | \"{3}(?:[^"\\]|\\.|"(?!""))*+(?:\"{3,5})?
    | '{3}(?:[^']|'(?!''))*+(?:'{3,5})?
    | "(?:[^"\\\n]|\\.)*+"?
    | '[^'\n]*+'?
    | (?P<opens>[\[{])
    | (?P<closes>[\]}])
    | (?P<dot>\.)
    | (?P<ends>[\n=,])
    """,
    re.DOTALL | re.VERBOSE,
)
# A pipe would wait for its writer, and a terminal become ours; Windows has no such files, and would turn each byte 13
# into none.
_OPEN = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
_BLOCK = 1 << 16
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")


def open_regular(path: Path, root: Path | None = None) -> int:
    """Open a regular file for reading and give the descriptor, which is not inherited; it never waits for a pipe.

    Args:
        path: the file.
        root: the folder that it must lie in once links are followed (see `inside`); None: anywhere.

    Raises:
        OSError: the system refuses.
        ValueError: it is a folder, a pipe, a device, …, or a link leads out of `root`.
    """
    if root is not None and not inside(path, root):
        raise ValueError("is a link to a file outside its folder; put the file itself there.")
    fd = os.open(path, _OPEN)
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
    target, folder = resolved(path), resolved(root)
    if target.is_relative_to(folder):
        return True
    snapshots = next((above for above in (folder, *folder.parents) if above.parent.name == "snapshots"), None)
    return snapshots is not None and target.is_relative_to(snapshots.parent.parent / "blobs")


def resolved(path: Path) -> Path:
    """The absolute path with its links followed; where they lead in a circle, one of them, which no one can open.

    `Path.resolve` raises a RuntimeError there before Python 3.13.
    """
    return Path(os.path.realpath(path))


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
        # One byte more than there should be tells of a file that grows, and of those of the system that say 0.
        while size <= limit and (more := os.read(fd, min(_BLOCK, limit + 1 - len(raw)))):
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
        json.JSONDecodeError: it is not JSON.
        ValueError: it is not UTF-8, a key occurs twice, it is deeper or has longer numbers than this module allows, a
            number is beyond float64, or a text holds half a character, which no file and no page can take.
    """
    text = _decoded(raw)
    _check_depth(text)
    try:
        value = json.loads(
            text,
            object_pairs_hook=no_duplicates,
            parse_int=_int,
            parse_float=_float,
            parse_constant=None if constants else _refuse_constant,
        )
    except RecursionError:
        raise ValueError("is nested too deeply.") from None
    if _SURROGATE.search(text):
        _check_characters(value)
    return value


def parse_toml(raw: bytes | bytearray | str) -> dict[str, Any]:
    """A TOML document from text that anyone may have written.

    Args:
        raw: UTF-8.

    Raises:
        tomllib.TOMLDecodeError: it is not TOML.
        ValueError: it is deeper than this module allows, or has a whole number of more than 64 bits, which TOML does
            not have.
    """
    try:
        text = _decoded(raw)
    except ValueError as error:
        raise tomllib.TOMLDecodeError(str(error)) from None
    _check_toml(text)
    try:
        content = tomllib.loads(text)
    except RecursionError:
        raise ValueError("is nested too deeply.") from None
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:  # Python's own, which speaks of `sys.set_int_max_str_digits`
        raise ValueError("a number has too many digits.") from None
    _check_values(content)
    return content


def read_json(path: Path, limit: int = MAX_DOCUMENT, root: Path | None = None) -> Any:
    """`parse_json` of `read_regular`."""
    return parse_json(read_regular(path, limit, root))


def read_toml(path: Path, limit: int = MAX_SETTINGS, root: Path | None = None) -> dict[str, Any]:
    """`parse_toml` of `read_regular`."""
    return parse_toml(read_regular(path, limit, root))


def no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object from its keys and values, for `json.loads`; ValueError if a key occurs twice."""
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice.")
    return result


def why(error: OSError | ValueError) -> str:
    """The clause of an error of this module, such as `Permission denied`, for the end of a sentence."""
    return error.strerror or clause(error) if isinstance(error, OSError) else clause(error)


def _decoded(raw: bytes | bytearray | str) -> str:
    if isinstance(raw, str):
        return raw
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is {raw[error.start]:#04x}, which is not UTF-8.") from None
    if text.startswith("\ufeff"):
        raise ValueError("it begins with a byte order mark; save it as UTF-8 without one.")
    return text


def _check_depth(text: str) -> None:
    """Before the parser's own recursion, whose bound differs from Python to Python."""
    if text.count("[") + text.count("{") > MAX_DEPTH:
        depth = 0
        for mark in _JSON_MARKS.finditer(text):
            depth = _deeper(depth, mark)


def _check_toml(text: str) -> None:
    """Likewise, and for keys of many parts, such as `a.a.a`: the parser's time grows as the square of their number."""
    depth = parts = 0
    for mark in _TOML_MARKS.finditer(text):
        depth = max(_deeper(depth, mark), 0)
        parts = parts + 1 if mark.lastgroup == "dot" else 0 if mark.lastgroup is not None else parts
        if parts > MAX_DEPTH:
            raise ValueError("is nested too deeply.")


def _deeper(depth: int, mark: re.Match[str]) -> int:
    depth += (mark.lastgroup == "opens") - (mark.lastgroup == "closes")
    if depth > MAX_DEPTH:
        raise ValueError("is nested too deeply.")
    return depth


def _check_values(content: dict[str, Any]) -> None:
    """What a parsed TOML document holds; without recursion, since headers and keys nest it further."""
    level: list[Any] = [content]
    for _ in range(MAX_DEPTH + 1):
        if any(type(value) is int and not -(1 << 63) <= value < 1 << 63 for value in level):
            raise ValueError("a whole number has more than 64 bits.")
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return
    raise ValueError("is nested too deeply.")


def _check_characters(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("a text holds half a character (a lone surrogate).") from None


def _int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number has {len(digits)} digits.")
    return int(digits)


def _float(digits: str) -> float:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number has {len(digits)} digits.")
    number = float(digits)
    if math.isinf(number):
        raise ValueError("a number is too large.")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON.")
