"""One store of several that were made for the same dataset in parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from diffcore_gpu.errors import StoreError
from diffcore_gpu.store.fingerprint import Int64Array
from diffcore_gpu.store.format import FORMAT_VERSION
from diffcore_gpu.store.growth.assembly import Assembled, assemble, pieces_of
from diffcore_gpu.store.growth.staging import Staging, require_folder
from diffcore_gpu.store.manifest import Manifest
from diffcore_gpu.store.provenance import FileContents, joined_contents
from diffcore_gpu.store.reader import CounterpartStore
from diffcore_gpu.store.tables import write_pairs, write_rows, written_pairs, written_rows


@dataclass(frozen=True)
class MergeReport:
    """What came of merging.

    Attributes:
        stores: that were merged.
        rows: of the new store.
        pairs: of the new store.
        duplicate_rows: that were there already and are kept once.
        duplicate_pairs: likewise.
        covered: samples that have a counterpart.
        linked_shards: of the new store, that are links to files of the others.
        copied_shards: that are copies.
        rewritten_shards: that were written anew, since some of their rows are duplicates.
        checksum: of the new store.
    """

    stores: int
    rows: int
    pairs: int
    duplicate_rows: int
    duplicate_pairs: int
    covered: int
    linked_shards: int
    copied_shards: int
    rewritten_shards: int
    checksum: str


def merge(out: str | Path, stores: Sequence[str | Path], *, link: bool = True) -> MergeReport:
    """Make one store of several that were made for the same dataset: by class or by sample, on several machines.

    The rows of the stores follow each other in the order given. Rows with the same bytes, class and seed are kept once,
    and so are pairs; of their similarities the first that was measured counts. Shards without such rows are hard links
    to those of the stores, which may be removed afterwards. Prompts are unified by their text. The new store's metadata
    are those that all stores agree on; its history keeps what each was made with.

    Killed at any step, it is done again from the start; when `out` is the store of just these stores, nothing is done.

    Args:
        out: the new store's folder.
        stores: at least two, of version 2, for the same number of samples, labels, file names, class names and image
            shape.
        link: whether shards are hard links where the file system allows it; else they are copies.

    Raises:
        StoreError: the stores do not fit together, which is noticed before anything is written; the message names the
            first that differs; or `out` holds another store or unfinished work, or cannot be written.
    """
    if len(stores) < 2:
        raise StoreError("merge takes at least two stores.")
    require_folder(out)
    parts = [CounterpartStore.open(path) for path in stores]
    contents = _check(parts)
    target = Path(out).absolute()
    if any(isinstance(part.path, Path) and part.path.resolve() == target.resolve() for part in parts):
        raise StoreError(f"{target}: is one of the stores to merge; give another folder for the new one.")
    entry = {
        "operation": "merge",
        "stores": [
            {"checksum": part.checksum, "rows": part.num_rows, "pairs": part.num_pairs, "metadata": part.metadata}
            for part in parts
        ],
    }
    with Staging(target, make=True) as staging:
        rows = _merged_rows(parts)
        pairs = _merged_pairs(parts, rows.new)
        made = Assembled([])
        if staging.is_finished:
            if not _is_merged_of(staging.open(), parts):
                raise StoreError(f"{target}: holds a finished store; give another folder for the merged one.")
        else:
            folder = staging.folder()
            kept = np.split(rows.kept, np.cumsum([part.num_rows for part in parts])[:-1])
            pieces = [piece for part, mask in zip(parts, kept, strict=True) for piece in pieces_of(part, mask)]
            made = assemble(pieces, target, folder, link=link)
            digests = parts[0].file_name_digests
            manifest = Manifest(
                image_shape=parts[0].image_shape,
                num_rows=len(rows.records),
                num_pairs=len(pairs),
                rows_per_shard=max(part.manifest.rows_per_shard for part in parts),
                class_names=tuple(parts[0].class_names),
                prompts=tuple(rows.prompts),
                fingerprint=parts[0].fingerprint,
                metadata=_common([part.metadata for part in parts]),
                shards=tuple(made.shards),
                rows=write_rows(folder, rows.records),
                pairs=write_pairs(
                    folder, pairs, parts[0].labels.numpy(), None if digests is None else digests.numpy(), contents
                ),
                history=(entry,),
            )
            staging.publish(manifest)
        merged = staging.open()
    return MergeReport(
        stores=len(parts),
        rows=merged.num_rows,
        pairs=merged.num_pairs,
        duplicate_rows=sum(part.num_rows for part in parts) - merged.num_rows,
        duplicate_pairs=sum(part.num_pairs for part in parts) - merged.num_pairs,
        covered=int((np.diff(merged.pair_ptr.numpy()) > 0).sum()),
        linked_shards=made.linked,
        copied_shards=made.copied,
        rewritten_shards=made.rewritten,
        checksum=merged.checksum,
    )


def _check(parts: Sequence[CounterpartStore]) -> FileContents | None:
    """Refuse stores that do not fit together; give what is known of the samples' files by all of them."""
    first = parts[0]
    contents = None
    for part in parts:
        if part.manifest.version < FORMAT_VERSION:
            raise StoreError(f"{part.path}: is a store of version 1, which cannot be merged; convert it first.")
        if part.image_shape != first.image_shape:
            raise StoreError(
                f"{part.path}: has images of {_shape(part)}, where those of {first.path} are {_shape(first)}."
            )
        if part.class_names != first.class_names:
            raise StoreError(f"{part.path}: has other class names than {first.path}{_first_class(first, part)}.")
        if part.fingerprint != first.fingerprint:
            raise StoreError(
                f"{part.path}: was made for another dataset than {first.path}{_first_sample(first, part)}."
            )
        if contents is not None and part.file_contents is not None:
            sample = contents.first_difference(part.file_contents)
            if sample is not None:
                raise StoreError(
                    f"{part.path}: was made when the file of sample {sample} held something else than for the stores "
                    "before it."
                )
        contents = joined_contents(contents, part.file_contents)
    return contents


def _shape(store: CounterpartStore) -> str:
    return "×".join(str(side) for side in store.image_shape)


def _first_class(first: CounterpartStore, part: CounterpartStore) -> str:
    for label, (one, other) in enumerate(zip(first.class_names, part.class_names, strict=False)):
        if one != other:
            return f": class {label} is {other!r}, not {one!r}"
    return f": {len(part.class_names)}, not {len(first.class_names)}"


def _first_sample(first: CounterpartStore, part: CounterpartStore) -> str:
    if part.num_samples != first.num_samples:
        return f": {part.num_samples} samples, not {first.num_samples}"
    differs = np.flatnonzero((part.labels != first.labels).numpy())
    if len(differs):
        return f": sample {differs[0]} has another label"
    if part.file_name_digests is None or first.file_name_digests is None:
        return ": only one of them knows the names of its files"
    return f": sample {int((part.file_name_digests != first.file_name_digests).int().argmax())} is another file"


class _Rows(NamedTuple):
    """The rows of all stores: which are kept, bool [n], the new row of each, int64 [n], and the new store's records."""

    kept: npt.NDArray[np.bool_]
    new: Int64Array
    records: npt.NDArray[Any]
    prompts: list[str]


def _merged_rows(parts: Sequence[CounterpartStore]) -> _Rows:
    prompts: dict[str, int] = {}
    tables = []
    for part in parts:
        ids = np.array([prompts.setdefault(text, len(prompts)) for text in part.prompts] + [-1], np.int32)
        table = written_rows(part)
        table["prompt"] = ids[table["prompt"]]  # −1, no prompt, is the last
        tables.append(table)
    records = np.concatenate(tables)
    order = np.lexsort((records["seed"], records["label"], records["digest"]))  # stable: the first of equal ones leads
    same = np.zeros(len(records), np.bool_)
    for name in ("digest", "label", "seed"):
        values = records[name][order]
        same[1:] = (values[1:] == values[:-1]) if name == "digest" else same[1:] & (values[1:] == values[:-1])
    leaders = order[~same]
    kept = np.zeros(len(records), np.bool_)
    kept[leaders] = True
    number = np.cumsum(kept) - 1
    new = np.empty(len(records), np.int64)
    new[order] = number[leaders[np.cumsum(~same) - 1]] if len(records) else 0
    return _Rows(kept, new, records[kept], list(prompts))


def _merged_pairs(parts: Sequence[CounterpartStore], new: Int64Array) -> npt.NDArray[Any]:
    tables, before = [], 0
    for part in parts:
        table = written_pairs(part)
        table["row"] = new[before + table["row"]]
        tables.append(table)
        before += part.num_rows
    pairs = np.concatenate(tables)
    order = np.lexsort((np.isnan(pairs["similarity"]), pairs["row"], pairs["sample"]))  # then as they came
    pairs = pairs[order]
    same = np.zeros(len(pairs), np.bool_)
    same[1:] = (pairs["sample"][1:] == pairs["sample"][:-1]) & (pairs["row"][1:] == pairs["row"][:-1])
    return pairs[~same]


def _common(metadata: Sequence[Any]) -> dict[str, Any]:
    """What all agree on."""
    first, *others = metadata
    return {key: value for key, value in first.items() if all(key in o and o[key] == value for o in others)}


def _is_merged_of(store: CounterpartStore, parts: Sequence[CounterpartStore]) -> bool:
    if len(store.manifest.history) != 1 or store.manifest.history[0].get("operation") != "merge":
        return False
    found = [part.get("checksum") for part in store.manifest.history[0].get("stores", [])]
    return found == [part.checksum for part in parts]
