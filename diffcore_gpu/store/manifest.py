"""`store.json` as a typed record: written the same for equal stores, and read with a check of every field."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from diffcore_gpu.documents import parse_json, read_regular, why
from diffcore_gpu.errors import StoreError, clause
from diffcore_gpu.store.fingerprint import DatasetFingerprint
from diffcore_gpu.store.format import (
    CHECKSUM,
    FORMAT_NAME,
    FORMAT_VERSION,
    RAW,
    VERSION_1_PAIRS,
    is_store_file,
    pairs_name,
    rows_name,
    shard_name,
    version_1_shard_name,
)

MAX_MANIFEST = 256 << 20
"""Bytes of a `store.json`: more than 100,000 shards and a million prompts take."""
_MAX_COUNT = 1 << 48  # more rows, samples or bytes than this are a damaged number
_MAX_SHARDS = 100_000  # the names have five digits


@dataclass(frozen=True)
class FileEntry:
    """One file of the store.

    Attributes:
        name: in the store's folder.
        size: in bytes.
        checksum: its SHA-256, hexadecimal.
        rows: of a shard, the number of its rows.
        codec: of a shard, how its images are encoded.
    """

    name: str
    size: int
    checksum: str
    rows: int = 0
    codec: str = RAW


@dataclass(frozen=True)
class Manifest:
    """What `store.json` says.

    Attributes:
        image_shape: (C, H, W) of every image.
        num_rows, num_pairs: how many there are.
        rows_per_shard: the most rows that a shard has.
        class_names: by class number.
        prompts: by prompt id.
        fingerprint: of the dataset.
        metadata: how the store was made.
        shards: in row order.
        rows: the rows' columns; None in version 1, where the shards hold them.
        pairs: the samples and pairs.
        history: what came after the first making, an object for each operation.
        superseded: names of files that readers of the store before the last operation may still need.
        version: of the format.
    """

    image_shape: tuple[int, int, int]
    num_rows: int
    num_pairs: int
    rows_per_shard: int
    class_names: tuple[str, ...]
    prompts: tuple[str, ...]
    fingerprint: DatasetFingerprint
    metadata: Mapping[str, Any]
    shards: tuple[FileEntry, ...]
    rows: FileEntry | None
    pairs: FileEntry
    history: tuple[Mapping[str, Any], ...] = ()
    superseded: tuple[str, ...] = ()
    version: int = FORMAT_VERSION

    @functools.cached_property
    def checksum(self) -> str:
        """SHA-256 (hexadecimal) over the content: equal for equal stores, since the content has each file's SHA-256."""
        return content_checksum(self.content())

    @property
    def num_samples(self) -> int:
        """Number of samples of the dataset that the store was made for."""
        return self.fingerprint.num_samples

    @property
    def row_ends(self) -> npt.NDArray[np.int64]:
        """The row before which each shard ends, int64 [number of shards]."""
        return np.cumsum([shard.rows for shard in self.shards], dtype=np.int64)

    @property
    def tables(self) -> tuple[FileEntry, ...]:
        """The files beside the shards."""
        return (self.pairs,) if self.rows is None else (self.rows, self.pairs)

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """Every file of the store but `store.json`."""
        return (*self.shards, *self.tables)

    def content(self) -> dict[str, Any]:
        """The manifest as JSON-able values, without the checksum over them."""
        shards = [
            {
                "name": shard.name,
                "rows": shard.rows,
                **({} if self.version == 1 else {"codec": shard.codec}),
                "bytes": shard.size,
                "checksum": shard.checksum,
            }
            for shard in self.shards
        ]
        return {
            "format": FORMAT_NAME,
            "version": self.version,
            "image": {"shape": list(self.image_shape), "dtype": "uint8"},
            "num_samples": self.num_samples,
            "num_rows": self.num_rows,
            "num_pairs": self.num_pairs,
            "rows_per_shard": self.rows_per_shard,
            "class_names": list(self.class_names),
            "prompts": list(self.prompts),
            "fingerprint": {"labels": self.fingerprint.labels, "file_names": self.fingerprint.file_names},
            # sorted, so that the order in which updates came does not show in the bytes
            "metadata": _sorted(self.metadata),
            **({} if self.version == 1 else {"history": _sorted(self.history), "superseded": list(self.superseded)}),
            "checksum_algorithm": CHECKSUM,
            "shards": shards,
            **({} if self.rows is None else {"rows": _table(self.rows)}),
            "pairs": _table(self.pairs),
        }

    def encode(self) -> bytes:
        """The bytes of `store.json`: the same for equal manifests."""
        content = self.content()
        content["checksum"] = content_checksum(content)
        return (json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode()


def _table(file: FileEntry) -> dict[str, Any]:
    return {"name": file.name, "bytes": file.size, "checksum": file.checksum}


def _sorted(values: object) -> Any:
    plain = list(values) if isinstance(values, tuple) else dict(values)  # type: ignore[call-overload]
    return json.loads(json.dumps(plain, sort_keys=True, default=dict))


def content_checksum(content: Mapping[str, Any]) -> str:
    """SHA-256 (hexadecimal) of JSON-able values as compact JSON with sorted keys, without the key `checksum`."""
    rest = {key: value for key, value in content.items() if key != "checksum"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_manifest(path: Path) -> tuple[Manifest, bool]:
    """Read and check a `store.json`.

    Returns:
        The manifest, and whether the checksum in the file is that of its content. The caller raises on the latter,
        after the checks that name a more particular cause.

    Raises:
        StoreError: if the file is missing, unreadable, not JSON, not a manifest, of a newer version, or impossible.
    """
    try:
        raw = read_regular(path, MAX_MANIFEST, path.parent)
    except FileNotFoundError:
        raise StoreError(f"{path}: missing; this folder holds no finished counterpart store.") from None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read: {why(error)}.") from error
    return parse_manifest(path, raw)


def parse_manifest(path: object, raw: bytes | bytearray | str) -> tuple[Manifest, bool]:
    """The manifest in the bytes of a `store.json` that `path` names, as `read_manifest` gives it."""
    try:
        content = parse_json(raw)
    except ValueError as error:
        raise StoreError(f"{path}: is not valid JSON ({clause(error)}).") from error
    if not isinstance(content, dict):
        raise StoreError(f"{path}: is not a JSON object.")
    fields = _Fields(path, content)
    if fields.text("format") != FORMAT_NAME:
        fields.fail("is not the store.json of a counterpart store")
    version = fields.count("version", minimum=1)
    if version > FORMAT_VERSION:
        fields.fail(
            f"has format version {version}, and this diffcore-gpu reads up to {FORMAT_VERSION}: upgrade diffcore-gpu"
        )
    image = fields.section("image")
    if image.text("dtype") != "uint8":
        image.fail(f"has images of dtype {image.text('dtype')!r}; version {version} holds uint8")
    shape = tuple(image.list_of("shape", int))
    if len(shape) != 3 or not all(0 < side < 1 << 20 for side in shape):
        image.fail(f"has the impossible image shape {list(shape)}; it should be [C, H, W]")
    if fields.text("checksum_algorithm") != CHECKSUM:
        fields.fail(f"names a checksum other than {CHECKSUM}, which version {version} uses")
    marks = fields.section("fingerprint")
    manifest = Manifest(
        version=version,
        image_shape=shape,
        num_rows=fields.count("num_rows"),
        num_pairs=fields.count("num_pairs"),
        rows_per_shard=fields.count("rows_per_shard", minimum=1),
        class_names=tuple(fields.list_of("class_names", str)),
        prompts=tuple(fields.list_of("prompts", str)),
        fingerprint=DatasetFingerprint(
            num_samples=fields.count("num_samples", minimum=1),
            labels=marks.hexadecimal("labels"),
            file_names=None if marks.get("file_names") is None else marks.hexadecimal("file_names"),
        ),
        metadata=fields.section("metadata").content,
        shards=tuple(shard.file_entry(shard=version) for shard in fields.sections("shards")),
        rows=None if version == 1 else fields.section("rows").file_entry(),
        pairs=fields.section("pairs").file_entry(),
        history=() if version == 1 else tuple(fields.list_of("history", dict)),
        superseded=() if version == 1 else tuple(fields.list_of("superseded", str)),
    )
    _check_counts(manifest, fields)
    _check_names(manifest, fields)
    checksum = fields.hexadecimal("checksum")
    try:
        return manifest, checksum == content_checksum(content)
    except ValueError as error:  # a float that JSON cannot hold, such as 1e999
        raise StoreError(f"{path}: is not valid JSON ({clause(error)}).") from error


def _check_counts(manifest: Manifest, fields: _Fields) -> None:
    num_shards = len(manifest.shards)
    if num_shards > _MAX_SHARDS:
        fields.fail(f"lists {num_shards} shards, more than the format allows")
    rows_left = manifest.num_rows
    for index, shard in enumerate(manifest.shards):
        most = min(rows_left, manifest.rows_per_shard)
        if not 0 < shard.rows <= most or (manifest.version == 1 and shard.rows != most):
            fields.fail(
                f"disagrees with itself: {manifest.num_rows} rows at {manifest.rows_per_shard} a shard do not give "
                f"{shard.rows} rows in shard {index} of {num_shards}"
            )
        rows_left -= shard.rows
    if rows_left:
        fields.fail(
            f"disagrees with itself: its shards hold {rows_left} rows fewer than the {manifest.num_rows} it counts"
        )


def _check_names(manifest: Manifest, fields: _Fields) -> None:
    """Names that follow from the content, so that none leads elsewhere or names two files."""
    one = manifest.version == 1
    for index, shard in enumerate(manifest.shards):
        name = version_1_shard_name(index, len(manifest.shards)) if one else shard_name(index, shard.checksum)
        if shard.name != name:
            fields.fail(f"names shard {index} {shard.name!r} instead of {name!r}")
    name = VERSION_1_PAIRS if one else pairs_name(manifest.pairs.checksum)
    if manifest.pairs.name != name:
        fields.fail(f"names the file of pairs {manifest.pairs.name!r} instead of {name!r}")
    if manifest.rows is not None and manifest.rows.name != rows_name(manifest.rows.checksum):
        fields.fail(f"names the file of rows {manifest.rows.name!r} instead of {rows_name(manifest.rows.checksum)!r}")
    for name in manifest.superseded:
        if not is_store_file(name):
            fields.fail(f"names a superseded file {name!r}, which is none of a store's")
    if not manifest.class_names:
        fields.fail("has no class names")
    for name in (*manifest.class_names, *manifest.prompts):
        try:
            name.encode()
        except UnicodeEncodeError:
            fields.fail(f"holds the text {name!r}, which is not valid Unicode")
    if not one and len(set(manifest.class_names)) < len(manifest.class_names):
        twice = next(name for name in manifest.class_names if manifest.class_names.count(name) > 1)
        fields.fail(f"names two classes {twice!r}")


class _Fields:
    """The fields of one JSON object, each fetched with a check of its type."""

    def __init__(self, path: object, content: dict[str, Any], where: str = "") -> None:
        self.path = path
        self.content = content
        self._where = where

    def fail(self, cause: str) -> NoReturn:
        raise StoreError(f"{self.path}: {cause}.")

    def get(self, key: str) -> Any:
        if key not in self.content:
            self.fail(f"lacks the key {self._where + key!r}")
        return self.content[key]

    def text(self, key: str) -> str:
        return str(self._typed(key, str, "a string"))

    def hexadecimal(self, key: str) -> str:
        value = self.text(key)
        if len(value) != 64 or set(value) - set("0123456789abcdef"):
            self.fail(f"has under {self._where + key!r} no SHA-256")
        return value

    def count(self, key: str, minimum: int = 0) -> int:
        value = self._typed(key, int, "a number")
        if not minimum <= value < _MAX_COUNT:
            self.fail(f"has the impossible number {value} under {self._where + key!r}")
        return int(value)

    def section(self, key: str) -> _Fields:
        return _Fields(self.path, self._typed(key, dict, "an object"), f"{self._where}{key}.")

    def sections(self, key: str) -> list[_Fields]:
        values = self.list_of(key, dict)
        return [_Fields(self.path, value, f"{self._where}{key}[{index}].") for index, value in enumerate(values)]

    def list_of(self, key: str, kind: type[Any]) -> list[Any]:
        values: list[Any] = self._typed(key, list, "a list")
        for index, value in enumerate(values):
            if type(value) is not kind:
                self.fail(f"has under {self._where + key!r} at place {index} a value of the wrong type")
        return values

    def file_entry(self, *, shard: int = 0) -> FileEntry:
        """The file that this object describes; `shard` is the format's version for a shard, and 0 for another file."""
        name = self.text("name")
        if name in ("", ".", "..") or "\0" in name or Path(name).name != name or "\\" in name:
            self.fail(f"names the file {name!r}, which is not a plain name inside the store's folder")
        return FileEntry(
            name=name,
            size=self.count("bytes"),
            checksum=self.hexadecimal("checksum"),
            rows=self.count("rows") if shard else 0,
            codec=self.text("codec") if shard > 1 else RAW,
        )

    def _typed(self, key: str, kind: type[Any], words: str) -> Any:
        value = self.get(key)
        if type(value) is not kind:
            self.fail(f"has under {self._where + key!r} something other than {words}")
        return value
