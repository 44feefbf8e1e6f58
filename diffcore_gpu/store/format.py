"""Store format, version 1: the names of the files, what they hold, and `store.json` as a typed record.

A store is a folder of

- `counterparts-00000-of-000NN.safetensors`, the shards: `images` uint8 [n, C, H, W], `label` int64 [n], `seed` int64
  [n], `prompt` int32 [n] (−1: none), `attempt` int16 [n]. Row r lies in shard r // rows_per_shard; only the last shard
  may hold fewer rows than that.
- `pairs.safetensors`: the dataset's labels, `label` int64 [num_samples]; where the samples have names, eight bytes of
  BLAKE2b of each, `file_name` int64 [num_samples]; and the pairs by sample, `pair_ptr` int64 [num_samples + 1],
  `pair_row` int64 [num_pairs], `pair_similarity` float32 [num_pairs] (NaN: not measured). The pairs of a sample are
  sorted by similarity from high to low, NaN last, then by row: the first is the best.
- `store.json`: everything else, and the size and SHA-256 of each file (`sha256sum` prints the same number). Its own
  `checksum` is the SHA-256 of its content without that field, as compact JSON with sorted keys.

Any safetensors reader opens the files. In ours the header is padded with spaces to 4096 bytes and `images` comes
first, so the images begin on a page boundary (and hence on every alignment up to that, 64 bytes included); the small
arrays behind them follow without padding, as the safetensors format demands, and may be unaligned.

There is no timestamp in any file: the same rows and pairs give the same bytes.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from diffcore_gpu.documents import parse_json, read_regular, why
from diffcore_gpu.errors import StoreError, clause
from diffcore_gpu.store.fingerprint import DatasetFingerprint

FORMAT_VERSION = 1
FORMAT_NAME = "diffcore-counterparts"
MANIFEST_NAME = "store.json"
PAIRS_NAME = "pairs.safetensors"
CHECKSUM = "sha256"

ROW_COLUMNS = {"label": "I64", "seed": "I64", "prompt": "I32", "attempt": "I16"}
"""The small per-row arrays of a shard, in the order of the file, with their safetensors dtypes."""

_MAX_COUNT = 1 << 48  # more rows, samples or bytes than this are a damaged number
_MAX_SHARDS = 100_000  # the names have five digits
_MAX_MANIFEST = 256 << 20


def shard_name(index: int, num_shards: int) -> str:
    """File name of shard `index` of `num_shards`."""
    return f"counterparts-{index:05d}-of-{num_shards:05d}.safetensors"


def shard_tensors(rows: int, image_shape: tuple[int, int, int]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name → dtype and shape of the tensors in a shard of `rows` rows, in the order of the file."""
    return {"images": ("U8", (rows, *image_shape)), **{name: (dtype, (rows,)) for name, dtype in ROW_COLUMNS.items()}}


def pairs_tensors(num_samples: int, num_pairs: int, *, names: bool) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name → dtype and shape of the tensors in `pairs.safetensors`, in the order of the file."""
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {"label": ("I64", (num_samples,))}
    if names:
        tensors["file_name"] = ("I64", (num_samples,))
    tensors["pair_ptr"] = ("I64", (num_samples + 1,))
    tensors["pair_row"] = ("I64", (num_pairs,))
    tensors["pair_similarity"] = ("F32", (num_pairs,))
    return tensors


@dataclass(frozen=True)
class FileEntry:
    """One file of the store: its name in the folder, its size in bytes, its SHA-256, and (shards) its rows."""

    name: str
    size: int
    checksum: str
    rows: int = 0


@dataclass(frozen=True)
class Manifest:
    """What `store.json` says."""

    image_shape: tuple[int, int, int]
    num_rows: int
    num_pairs: int
    rows_per_shard: int
    class_names: tuple[str, ...]
    prompts: tuple[str, ...]
    fingerprint: DatasetFingerprint
    metadata: Mapping[str, Any]
    shards: tuple[FileEntry, ...]
    pairs: FileEntry

    @functools.cached_property
    def checksum(self) -> str:
        """SHA-256 (hexadecimal) over the content: equal for equal stores, since the content has each file's SHA-256."""
        return content_checksum(self.content())

    @property
    def num_samples(self) -> int:
        """Number of samples of the dataset that the store was made for."""
        return self.fingerprint.num_samples

    def content(self) -> dict[str, Any]:
        """The manifest as JSON-able values, without the checksum over them."""
        return {
            "format": FORMAT_NAME,
            "version": FORMAT_VERSION,
            "image": {"shape": list(self.image_shape), "dtype": "uint8"},
            "num_samples": self.num_samples,
            "num_rows": self.num_rows,
            "num_pairs": self.num_pairs,
            "rows_per_shard": self.rows_per_shard,
            "class_names": list(self.class_names),
            "prompts": list(self.prompts),
            "fingerprint": {"labels": self.fingerprint.labels, "file_names": self.fingerprint.file_names},
            # sorted, so that the order in which updates came does not show in the bytes
            "metadata": json.loads(json.dumps(dict(self.metadata), sort_keys=True)),
            "checksum_algorithm": CHECKSUM,
            "shards": [
                {"name": shard.name, "rows": shard.rows, "bytes": shard.size, "checksum": shard.checksum}
                for shard in self.shards
            ],
            "pairs": {"name": self.pairs.name, "bytes": self.pairs.size, "checksum": self.pairs.checksum},
        }

    def encode(self) -> bytes:
        """The bytes of `store.json`: the same for equal manifests."""
        content = self.content()
        content["checksum"] = content_checksum(content)
        return (json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode()


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
    content = _read_json(path)
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
        image.fail(f"has images of dtype {image.text('dtype')!r}; version {FORMAT_VERSION} holds uint8")
    shape = tuple(image.list_of("shape", int))
    if len(shape) != 3 or not all(0 < side < 1 << 20 for side in shape):
        image.fail(f"has the impossible image shape {list(shape)}; it should be [C, H, W]")
    if fields.text("checksum_algorithm") != CHECKSUM:
        fields.fail(f"names a checksum other than {CHECKSUM}, which version {FORMAT_VERSION} uses")
    marks = fields.section("fingerprint")
    pairs = fields.section("pairs")
    manifest = Manifest(
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
        shards=tuple(shard.file_entry() for shard in fields.sections("shards")),
        pairs=pairs.file_entry(has_rows=False),
    )
    _check_counts(manifest, fields)
    checksum = fields.hexadecimal("checksum")
    return manifest, checksum == content_checksum(content)


def _check_counts(manifest: Manifest, fields: _Fields) -> None:
    num_shards = len(manifest.shards)
    if num_shards > _MAX_SHARDS:
        fields.fail(f"lists {num_shards} shards, more than the format allows")
    rows_left = manifest.num_rows
    for index, shard in enumerate(manifest.shards):
        expected = min(rows_left, manifest.rows_per_shard)
        if shard.rows != expected or expected == 0:
            fields.fail(
                f"disagrees with itself: {manifest.num_rows} rows at {manifest.rows_per_shard} a shard do not give "
                f"{shard.rows} rows in shard {index} of {num_shards}"
            )
        rows_left -= expected
        if shard.name != shard_name(index, num_shards):
            fields.fail(f"names shard {index} {shard.name!r} instead of {shard_name(index, num_shards)!r}")
    if rows_left:
        fields.fail(
            f"disagrees with itself: its shards hold {rows_left} rows fewer than the {manifest.num_rows} it counts"
        )
    if manifest.pairs.name != PAIRS_NAME:
        fields.fail(f"names the file of pairs {manifest.pairs.name!r} instead of {PAIRS_NAME!r}")
    if not manifest.class_names:
        fields.fail("has no class names")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        raw = read_regular(path, _MAX_MANIFEST, path.parent)
    except FileNotFoundError:
        raise StoreError(f"{path}: missing; this folder holds no finished counterpart store.") from None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read: {why(error)}.") from error
    try:
        content = parse_json(raw)
    except ValueError as error:
        raise StoreError(f"{path}: is not valid JSON ({clause(error)}).") from error
    if not isinstance(content, dict):
        raise StoreError(f"{path}: is not a JSON object.")
    return content


class _Fields:
    """The fields of one JSON object, each fetched with a check of its type."""

    def __init__(self, path: Path, content: dict[str, Any], where: str = "") -> None:
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

    def file_entry(self, *, has_rows: bool = True) -> FileEntry:
        name = self.text("name")
        if name in ("", ".", "..") or "\0" in name or Path(name).name != name or "\\" in name:
            self.fail(f"names the file {name!r}, which is not a plain name inside the store's folder")
        return FileEntry(
            name=name,
            size=self.count("bytes"),
            checksum=self.hexadecimal("checksum"),
            rows=self.count("rows") if has_rows else 0,
        )

    def _typed(self, key: str, kind: type[Any], words: str) -> Any:
        value = self.get(key)
        if type(value) is not kind:
            self.fail(f"has under {self._where + key!r} something other than {words}")
        return value
