"""Store format: the names of the files and the tensors that they hold.

A store of version 2 is a folder of

- `counterparts-00000-0123456789ab.safetensors`, the shards, numbered in row order: of codec "raw" `images` uint8
  [n, C, H, W]; of another codec `data` uint8 [bytes], the encoded images one behind the other, and `offset` int64
  [n + 1], where image i is data[offset[i] : offset[i + 1]].
- `rows-0123456789ab.safetensors`: of each row `label`, `seed`, `digest` and `source` int64, `prompt` int32 (−1: none),
  `attempt` int16. `digest` is the XXH3-64 of the row's bytes as its shard holds them, `source` that of the file which
  the row was made from (0: none).
- `pairs-0123456789ab.safetensors`: the dataset's labels, `label` int64 [num_samples]; where the samples have keys (file
  names), eight bytes of BLAKE2b of each, `file_name` int64 [num_samples]; where they are files, size in bytes (−1: not
  known) and XXH3-64 of each, `file_size` and `file_digest` int64 [num_samples]; and the pairs by sample, `pair_ptr`
  int64 [num_samples + 1], `pair_row` int64 [num_pairs], `pair_similarity` float32 [num_pairs] (NaN: not measured). The
  pairs of a sample are sorted by similarity from high to low, NaN last, then by row: the first is the best.
- `store.json`: everything else, and the size and SHA-256 of each file (`sha256sum` prints the same number). Its own
  `checksum` is the SHA-256 of its content without that field, as compact JSON with sorted keys.

The twelve digits in a name are the first of the file's SHA-256: a file never changes under its name, so a store that
grows or is replaced puts its new files beside the old ones, then swaps `store.json`, then removes what nothing needs.

A store of version 1, which is read but not written, has shards `counterparts-00000-of-000NN.safetensors` with the
columns `label`, `seed`, `prompt` and `attempt` behind the images, of `rows_per_shard` rows each but the last; and
`pairs.safetensors`. It knows no digests.

Any safetensors reader opens the files. In ours the header is padded with spaces to 4096 bytes and the images come
first, so they begin on a page boundary (and hence on every alignment up to that, 64 bytes included); what follows has
no padding, as the safetensors format demands, and may be unaligned.

There is no timestamp in any file: the same rows and pairs give the same bytes.
"""

from __future__ import annotations

import re
from typing import TypeAlias

FORMAT_VERSION = 2
FORMAT_NAME = "diffcore-counterparts"
MANIFEST_NAME = "store.json"
CHECKSUM = "sha256"
RAW = "raw"
"""The codec of images that are not compressed."""

ROW_COLUMNS = {"label": "I64", "seed": "I64", "digest": "I64", "source": "I64", "prompt": "I32", "attempt": "I16"}
"""The columns of `rows-….safetensors` in the order of the file, with their safetensors dtypes."""
SHARD_COLUMNS = {"label": "I64", "seed": "I64", "prompt": "I32", "attempt": "I16"}
"""Likewise those of a shard of version 1."""

VERSION_1_PAIRS = "pairs.safetensors"
_OURS = re.compile(
    r"counterparts-\d{5}-(of-\d{5}|[0-9a-f]{12})\.safetensors|(rows|pairs)-[0-9a-f]{12}\.safetensors|"
    + re.escape(VERSION_1_PAIRS)
)

Tensors: TypeAlias = dict[str, tuple[str, tuple[int, ...]]]
"""Name → dtype and shape of the tensors in a file, in the order of the file."""


def shard_name(index: int, checksum: str) -> str:
    """File name of shard `index`, whose content has that SHA-256 (hexadecimal)."""
    return f"counterparts-{index:05d}-{checksum[:12]}.safetensors"


def rows_name(checksum: str) -> str:
    """File name of the rows' columns, whose content has that SHA-256 (hexadecimal)."""
    return f"rows-{checksum[:12]}.safetensors"


def pairs_name(checksum: str) -> str:
    """File name of the samples and pairs, whose content has that SHA-256 (hexadecimal)."""
    return f"pairs-{checksum[:12]}.safetensors"


def version_1_shard_name(index: int, num_shards: int) -> str:
    """File name of shard `index` of `num_shards` in a store of version 1."""
    return f"counterparts-{index:05d}-of-{num_shards:05d}.safetensors"


def is_store_file(name: str) -> bool:
    """Whether a file of that name in a store's folder is one that some store was made of, `store.json` apart."""
    return _OURS.fullmatch(name) is not None


def raw_tensors(rows: int, image_shape: tuple[int, int, int], *, columns: bool = False) -> Tensors:
    """The tensors of a raw shard of `rows` rows; with `columns`, of one of version 1."""
    return {
        "images": ("U8", (rows, *image_shape)),
        **({name: (dtype, (rows,)) for name, dtype in SHARD_COLUMNS.items()} if columns else {}),
    }


def encoded_tensors(rows: int, size: int) -> Tensors:
    """The tensors of a shard of `rows` encoded images that have `size` bytes together."""
    return {"data": ("U8", (size,)), "offset": ("I64", (rows + 1,))}


def rows_tensors(rows: int) -> Tensors:
    """The tensors of the rows' columns."""
    return {name: (dtype, (rows,)) for name, dtype in ROW_COLUMNS.items()}


def pairs_tensors(num_samples: int, num_pairs: int, *, names: bool, contents: bool = False) -> Tensors:
    """The tensors of samples and pairs.

    Args:
        num_samples: number of samples.
        num_pairs: number of pairs.
        names: whether the samples have keys.
        contents: whether they are files whose content is known.
    """
    per_sample = ["label", *(["file_name"] if names else []), *(["file_size", "file_digest"] if contents else [])]
    return {
        **dict.fromkeys(per_sample, ("I64", (num_samples,))),
        "pair_ptr": ("I64", (num_samples + 1,)),
        "pair_row": ("I64", (num_pairs,)),
        "pair_similarity": ("F32", (num_pairs,)),
    }
