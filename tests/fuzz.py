"""Damaged and hostile variants of a valid file, each known by its seed.

Half of them change bytes: bits flip, a part is lost, doubled or moved, something hostile is put in. The others change
what the file says and leave it well-formed, so that they come past the parser: a value becomes one of another kind, or
far too large, or half a character; a key is lost, renamed, doubled; lists grow and shrink; all of it is nested deeply.

    for seed in range(1000):
        path.write_bytes(mutated(sample, seed, "json"))
"""

from __future__ import annotations

import json
import os
import random
import resource
import struct
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Literal

Kind = Literal["bytes", "json", "toml", "safetensors"]
"""What the sample is; of mere bytes nothing is known."""

TOKENS = (
    b"", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b'"', b"'", b"\\", b"\n", b"\r",
    b"{", b"}", b"[", b"]", b",", b":", b"=", b"#", b".", b"[]", b"{}", b"null", b"true", b"NaN", b"-Infinity", b"nan",
    b"-1", b"0", b"1.5", b"1e308", b"1e999999", b"1" + b"0" * 30, b"9" * 5000, b"0." + b"1" * 5000, b"0x" + b"f" * 100,
    b"[" * 65, b"[" * 2000, b'{"a":' * 2000, b"a." * 2000, b'"""', b"'''", b"[[a]]\n", b"../../../etc/passwd",
    b"/dev/zero", b"1979-05-27T07:32:00Z", b"99:99:99", b"A" * 70_000,
)  # fmt: skip
"""What is put between the bytes of a file."""

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 64, 255, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**30, 10**3999,
    0.0, -0.0, 0.5, 1.5, -1e-300, 1e18, 1e308, float("nan"), float("inf"), float("-inf"), "", " ", "0", "1", "nan", "é",
    "\x00", "\ud800", "\U0001f600", "\x1b[2J", "<script>", "{}", "{label", "{label.__class__}", "../../x", "/dev/zero",
    ".", "A" * 300, "9" * 5000, "A" * 70_000, [], [[]], [None], [1, "a", {}], [0] * 3000, {}, {"": {}}, {"a": None},
    {"__class__": "x"}, {"a": [{"b": [{}]}]},
)  # fmt: skip
"""What a value becomes."""


MAX_MESSAGE = 1500
"""Characters of a sentence: it must not repeat a whole file."""
MAX_MEMORY = 256 << 20
"""Bytes by which the process may grow while it reads variants of a small file."""


def mutated(sample: bytes, seed: int, kind: Kind = "bytes") -> bytes:
    """A variant of a file.

    Args:
        sample: a valid file of that kind.
        seed: which variant; the same for the same seed, on every machine.
        kind: what the file is.
    """
    draw = random.Random(f"{kind} {seed}")
    if kind == "bytes" or draw.random() < 0.5:
        return _change_bytes(sample, draw)
    return _STRUCTURED[kind](sample, draw)


def seeds(count: int) -> range:
    """So many seeds, times the number in the environment variable `FUZZ_TIMES`, for a longer search."""
    return range(count * int(os.environ.get("FUZZ_TIMES", "1")))


def survives(
    read: Callable[[bytes], object],
    sample: bytes,
    kind: Kind,
    seeds: Iterable[int],
    refusals: tuple[type[Exception], ...],
) -> Counter[str]:
    """Let a reader read many variants of a file.

    Args:
        read: takes the content.
        sample, kind: see `mutated`.
        seeds: which variants.
        refusals: what it may raise, always with one sentence.

    Returns:
        How many were "read", and how many "refused".

    Raises:
        AssertionError: it raised something else, naming the seed, or no sentence, or took far more memory than files of
            this size need.
    """
    outcomes: Counter[str] = Counter()
    before = _most_memory()
    for seed in seeds:
        raw = mutated(sample, seed, kind)
        try:
            read(raw)
        except refusals as error:
            outcomes["refused"] += 1
            message = str(error)
            if "\n" in message or len(message) > MAX_MESSAGE or not message.endswith((".", "?")):
                raise AssertionError(f"seed {seed}: {message[:3000]!r} is not one sentence.") from error
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {str(error)[:300]}") from error
        else:
            outcomes["read"] += 1
        if _most_memory() - before > MAX_MEMORY:
            raise AssertionError(f"seed {seed}: took more than {MAX_MEMORY} bytes.")
    return outcomes


def _most_memory() -> int:
    """The most bytes that this process ever had at once."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def to_toml(table: dict[str, Any]) -> str:
    """A TOML document of one line for each key, without what TOML does not have: `None` becomes an empty text."""
    return "".join(f"{_toml_key(key)} = {_toml_value(value)}\n" for key, value in table.items())


def change_value(value: Any, draw: random.Random) -> Any:
    """JSON-able values with a few changes; the given ones stay as they are."""
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        value = _change_one(value, draw)
    return value


def _change_bytes(sample: bytes, draw: random.Random) -> bytes:
    data = bytearray(sample)
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        begin, end = sorted((draw.randint(0, len(data)), draw.randint(0, len(data))))
        end = draw.choice((end, min(end, begin + 8)))
        match draw.randrange(8):
            case 0 if data:
                data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
            case 1:
                del data[end:]
            case 2:
                del data[begin:end]
            case 3:
                data[begin:begin] = draw.randbytes(draw.choice((1, 4, 64)))
            case 4:
                data[begin:begin] = data[begin:end] * draw.choice((1, 1, 2, 40 if end - begin < 1000 else 1))
            case 5:
                data[end:end] = data[begin:end]
                del data[begin:end]
            case 6:
                data[begin:begin] = draw.choice(TOKENS)
            case _:
                data[begin:end] = draw.choice(TOKENS)
    return bytes(data)


def _change_one(value: Any, draw: random.Random) -> Any:
    """With one change, at a depth that is drawn on the way down."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key = draw.choice(list(value))
        if draw.random() < 0.75:
            return {**value, key: _change_one(value[key], draw)}
        return _change_keys(value, key, draw)
    if isinstance(value, list) and value and draw.random() < 0.8:
        place = draw.randrange(len(value))
        if draw.random() < 0.75:
            return [*value[:place], _change_one(value[place], draw), *value[place + 1 :]]
        return draw.choice(
            (value[:place], value[:place] + value[place + 1 :], value + value[place:], [*value, draw.choice(VALUES)])
        )
    if isinstance(value, int | float) and draw.random() < 0.4:
        return draw.choice((-value, value + 1, value - 1, value * 1000, str(value), [value], bool(value)))
    nested = draw.choice(VALUES)
    for _ in range(draw.choice((0, 0, 0, 0, 0, 3, 70, 300))):
        nested = draw.choice(([nested], {"a": nested}))
    return nested


def _change_keys(value: dict[str, Any], key: str, draw: random.Random) -> dict[str, Any]:
    others = {name: inner for name, inner in value.items() if name != key}
    match draw.randrange(4):
        case 0:
            return others
        case 1:
            return {**others, draw.choice((key + " ", key.upper(), "", "\ud800", "A" * 300)): value[key]}
        case 2:
            return {**value, draw.choice(("more", "", "version", "__proto__")): draw.choice(VALUES)}
        case _:
            return {**value, key: value[draw.choice(list(value))]}


def _json(sample: bytes, draw: random.Random) -> bytes:
    text = json.dumps(change_value(json.loads(sample), draw))
    if draw.random() < 0.05 and text.startswith("{") and len(text) > 2:
        text = text[:-1] + "," + text[1:]  # every key twice
    return text.encode()


def _toml(sample: bytes, draw: random.Random) -> bytes:
    changed = change_value(tomllib.loads(sample.decode()), draw)
    text = to_toml(changed) if isinstance(changed, dict) else f"a = {_toml_value(changed)}\n"
    return text.encode("utf-8", "surrogatepass")


def _safetensors(sample: bytes, draw: random.Random) -> bytes:
    (length,) = struct.unpack("<Q", sample[:8])
    header = _json(sample[8 : 8 + length], draw)
    told = draw.choice((len(header), len(header), len(header), len(header) + 1, 0, 1 << 40, (1 << 64) - 1))
    return struct.pack("<Q", told) + header + sample[8 + length :]


_STRUCTURED: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "json": _json,
    "toml": _toml,
    "safetensors": _safetensors,
}


def _toml_key(key: str) -> str:
    return _toml_value(key)


def _toml_value(value: Any) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{_toml_key(key)} = {_toml_value(inner)}" for key, inner in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(_toml_value, value)) + "]"
        case bool():
            return "true" if value else "false"
        case float():
            return repr(value)
        case int():
            return hex(value) if value >= 0 else str(value)
        case None:
            return '""'
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case _:
            return str(value)  # a date or a time
