"""Headers of safetensors files: how ours are written, and a strict reading of what a file claims to hold.

A safetensors file is eight bytes with the header's length (little-endian), the header (JSON, padded with spaces) and
the tensors' bytes without gaps. The shards are written here rather than by the `safetensors` package because a shard
is streamed to disk row by row, and because the package cannot place the data: in our files the header always fills the
first `DATA_START` bytes, so the first tensor begins on a page boundary.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from diffcore_gpu.documents import parse_json
from diffcore_gpu.errors import StoreError, clause
from diffcore_gpu.store.durable import named_os_errors

DATA_START = 4096
"""Offset in bytes of the first tensor in the files that we write: one page, and so any alignment up to that."""

ITEM_BYTES = {"U8": 1, "I16": 2, "I32": 4, "I64": 8, "F32": 4}
"""Bytes per element of the dtypes that a store holds, by their safetensors names."""

_MAX_HEADER = 1 << 20  # ours take 4 KiB; a damaged length must not make us read gigabytes


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies: dtype by its safetensors name, shape, and the half-open byte range in the *file*."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def build_header(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> bytes:
    """The first `DATA_START` bytes of a file that holds `tensors` (name → dtype and shape), in that order."""
    entries: dict[str, object] = {}
    begin = 0
    for name, (dtype, shape) in tensors.items():
        end = begin + ITEM_BYTES[dtype] * math.prod(shape)
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    room = DATA_START - 8
    if len(text) > room:
        raise ValueError(f"a header of {len(text)} bytes does not fit into {room}.")
    return struct.pack("<Q", room) + text.ljust(room)


def file_bytes(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> int:
    """Size in bytes of a file of ours that holds `tensors`."""
    return DATA_START + sum(ITEM_BYTES[dtype] * math.prod(shape) for dtype, shape in tensors.values())


def read_header(path: Path, size: int) -> dict[str, TensorEntry]:
    """Read the header of a safetensors file of `size` bytes and check that it describes the file without a gap.

    Raises:
        StoreError: if the file cannot be read, or the header is not what the safetensors format allows: a length beyond
            the file, not JSON, an unknown dtype, a shape that disagrees with its bytes, overlapping or missing bytes.
    """
    with named_os_errors(path, "cannot be read"), path.open("rb") as file:
        prefix = file.read(8)
        (length,) = struct.unpack("<Q", prefix) if len(prefix) == 8 else (0,)
        return parse_header(path, prefix + file.read(min(length, _MAX_HEADER)), size)


def parse_header(path: Path, begin: bytes | bytearray, size: int) -> dict[str, TensorEntry]:
    """The header of a safetensors file of `size` bytes from its first bytes, as `read_header`."""
    if len(begin) < 8:
        raise StoreError(f"{path}: too short for a safetensors file ({len(begin)} bytes).")
    (length,) = struct.unpack("<Q", begin[:8])
    if length > min(size - 8, _MAX_HEADER):
        raise StoreError(f"{path}: damaged: its header claims {length} bytes in a file of {size}.")
    return _parse(path, begin[8 : 8 + length], 8 + length, size)


def check_tensors(
    path: Path, found: Mapping[str, TensorEntry], expected: Mapping[str, tuple[str, tuple[int, ...]]]
) -> None:
    """Raise `StoreError` unless the file holds exactly the `expected` tensors (name → dtype and shape)."""
    if set(found) != set(expected):
        raise StoreError(f"{path}: holds the tensors {sorted(found)}, not {sorted(expected)}.")
    for name, (dtype, shape) in expected.items():
        entry = found[name]
        if (entry.dtype, entry.shape) != (dtype, shape):
            raise StoreError(
                f"{path}: the tensor {name!r} is {entry.dtype} {list(entry.shape)}, "
                f"where store.json calls for {dtype} {list(shape)}."
            )


def _parse(path: Path, text: bytes | bytearray, data_start: int, size: int) -> dict[str, TensorEntry]:
    try:
        header = parse_json(text)
    except ValueError as error:
        raise StoreError(f"{path}: damaged: its header is not a safetensors header ({clause(error)}).") from error
    if not isinstance(header, dict):
        raise StoreError(f"{path}: damaged: its header is not a JSON object.")
    header.pop("__metadata__", None)
    entries = {name: _entry(path, name, value, data_start) for name, value in header.items()}
    position = data_start
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != position:
            raise StoreError(f"{path}: damaged: the bytes of tensor {name!r} overlap or leave a gap.")
        position = entry.end
    if position != size:
        raise StoreError(f"{path}: damaged: its header describes {position} bytes, the file has {size}.")
    return entries


def _entry(path: Path, name: str, value: object, data_start: int) -> TensorEntry:
    match value:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [begin, end], **rest} if not rest:
            numbers = [*shape, begin, end]
        case _:
            raise StoreError(f"{path}: damaged: the header's entry for tensor {name!r} is malformed.")
    if dtype not in ITEM_BYTES:
        raise StoreError(f"{path}: the tensor {name!r} has dtype {dtype}, which a counterpart store does not hold.")
    if not all(type(number) is int and 0 <= number < 1 << 62 for number in numbers) or begin > end:
        raise StoreError(f"{path}: damaged: the header's entry for tensor {name!r} has impossible numbers.")
    if ITEM_BYTES[dtype] * math.prod(shape) != end - begin:
        raise StoreError(f"{path}: damaged: the shape of tensor {name!r} disagrees with its bytes.")
    return TensorEntry(dtype, tuple(shape), data_start + begin, data_start + end)
