"""Taking pairs out of a store, and rows that serve no sample any more."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from diffcore_gpu.errors import StoreError
from diffcore_gpu.store.fingerprint import as_labels
from diffcore_gpu.store.growth.assembly import assemble, pieces_of
from diffcore_gpu.store.growth.staging import Staging, manifest_after
from diffcore_gpu.store.reader import CounterpartStore
from diffcore_gpu.store.tables import write_pairs, write_rows, written_pairs, written_rows

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class PruneReport:
    """What came of pruning.

    Attributes:
        pairs: that are left.
        removed_pairs: that were taken out.
        rows: that are in the store.
        removed_rows: that were taken out with their images.
        unused_rows: that are there and serve no sample.
        covered: samples that have a counterpart.
        uncovered: samples that had one and have none any more.
        rewritten_shards: shards that were written again without some of their rows.
        checksum: of the store as it is now.
    """

    pairs: int
    removed_pairs: int
    rows: int
    removed_rows: int
    unused_rows: int
    covered: int
    uncovered: int
    rewritten_shards: int
    checksum: str


def prune(
    path: str | Path,
    *,
    rows: Sequence[int] | npt.NDArray[Any] | None = None,
    pairs: Iterable[tuple[int, int]] | None = None,
    classes: Sequence[str] | None = None,
    below: float | None = None,
    lowest: float | None = None,
    best: int | None = None,
    compact: bool = False,
    expect: str | None = None,
) -> PruneReport:
    """Take out pairs that any of the conditions names, and then all but the `best` of each sample.

    Only the tables change; the images stay in their shards, and whoever has the store open keeps reading it. With
    `compact`, rows that serve no sample go too: the shards that hold some are written again, the rows after them get
    other numbers, and readers of the store before must open it again.

    Args:
        path: the store's folder.
        rows: take out every pair of these rows.
        pairs: take out these pairs of a sample and a row.
        classes: take out every pair of these classes, by name.
        below: take out pairs whose similarity is less; those that were not measured stay.
        lowest: take out this share of the pairs whose similarity was measured, in [0, 1], the least similar first.
        best: keep of each sample only so many, the most similar; what was not measured comes last.
        compact: also take out the rows that serve no sample.
        expect: do this to the store with this checksum alone. Where the very next operation on it was a prune, it was
            this one, which was killed before it could say so, and nothing is done: a rerun takes out nothing more.

    Raises:
        StoreError: nothing was asked for, a number or name is not in the store, there is no such pair, or the store is
            another one than expected, unfinished, of version 1 or cannot be written.
    """
    if rows is None and pairs is None and classes is None and below is lowest is best is None and not compact:
        raise StoreError("nothing was said about what to prune; name rows, pairs or classes, or give a limit.")
    _check_limits(below, lowest, best)
    with Staging(path) as staging:
        store = staging.open()
        if expect is not None and store.checksum != expect:
            if _was_pruned(store, expect):
                return _report(store, store, 0, 0)
            raise StoreError(f"{store.path}: has the checksum {store.checksum[:12]}…, not {expect[:12]}….")
        present = written_pairs(store)
        kept = ~_named(store, present, rows, pairs, classes)
        kept &= ~_dissimilar(present, kept, below, lowest)
        if best is not None:
            kept &= _ranks(present["sample"], kept) < best
        used = np.ones(store.num_rows, np.bool_)
        if compact:
            used[:] = False
            used[present["row"][kept]] = True
        if kept.all() and used.all():
            return _report(store, store, 0, 0)
        about = {
            "pairs": [store.num_pairs, int(kept.sum())],
            "rows": [store.num_rows, int(used.sum())],
            "conditions": {
                "rows": rows is not None,
                "pairs": pairs is not None,
                "classes": None if classes is None else list(classes),
                "below": below,
                "lowest": lowest,
                "best": best,
                "compact": compact,
            },
        }
        rewritten = _publish(staging, store, present[kept], used, about)
        return _report(store, staging.open(), int((~used).sum()), rewritten)


def _publish(
    staging: Staging, store: CounterpartStore, pairs: npt.NDArray[Any], used: Bools, about: dict[str, Any]
) -> int:
    folder, old = staging.folder(), store.manifest
    fields: dict[str, Any] = {}
    rewritten = 0
    if not used.all():
        made = assemble(pieces_of(store, used), staging.path, folder)
        rewritten = made.rewritten
        pairs["row"] = (np.cumsum(used) - 1)[pairs["row"]]
        fields = {
            "shards": tuple(made.shards),
            "rows": write_rows(folder, written_rows(store)[used]),
            "num_rows": int(used.sum()),
        }
    digests = None if store.file_name_digests is None else store.file_name_digests.numpy()
    fields["pairs"] = write_pairs(folder, pairs, store.labels.numpy(), digests, store.file_contents)
    staging.publish(manifest_after(old, "prune", about, num_pairs=len(pairs), **fields))
    return rewritten


def _check_limits(below: float | None, lowest: float | None, best: int | None) -> None:
    if below is not None and not math.isfinite(below):
        raise StoreError(f"below must be a finite number, not {below}.")
    if lowest is not None and not 0 <= lowest <= 1:
        raise StoreError(f"lowest is a share of the pairs, in [0, 1], not {lowest:g}.")
    if best is not None and best < 1:
        raise StoreError(f"best must be at least 1, not {best}; to take out all pairs of a class, name the class.")


def _was_pruned(store: CounterpartStore, before: str) -> bool:
    history = store.manifest.history
    return bool(history) and history[-1].get("operation") == "prune" and history[-1].get("before") == before


def _named(
    store: CounterpartStore,
    present: npt.NDArray[Any],
    rows: Sequence[int] | npt.NDArray[Any] | None,
    pairs: Iterable[tuple[int, int]] | None,
    classes: Sequence[str] | None,
) -> Bools:
    """Which of the pairs that are there were named: by their row, themselves, or by their class."""
    named = np.zeros(len(present), np.bool_)
    if rows is not None:
        numbers = as_labels(rows, f"{store.path}: rows")
        outside = (numbers < 0) | (numbers >= store.num_rows)
        if outside.any():
            raise StoreError(f"{store.path}: row {numbers[outside][0]} is outside the store's {store.num_rows} rows.")
        of_row = np.zeros(store.num_rows, np.bool_)
        of_row[numbers] = True
        named |= of_row[present["row"]]
    if pairs is not None:
        place = {pair: at for at, pair in enumerate(zip(present["sample"].tolist(), present["row"].tolist()))}  # noqa: B905
        for sample, row in pairs:
            if (sample, row) not in place:
                raise StoreError(f"{store.path}: there is no pair of sample {sample} and row {row}.")
            named[place[sample, row]] = True
    if classes is not None:
        unknown = [name for name in classes if name not in store.class_names]
        if unknown:
            raise StoreError(f"{store.path}: has no class {unknown[0]!r}.")
        of_class = np.array([name in classes for name in store.class_names])
        named |= of_class[store.labels.numpy()[present["sample"]]]
    return named


def _dissimilar(present: npt.NDArray[Any], kept: Bools, below: float | None, lowest: float | None) -> Bools:
    """Which of the pairs that are kept so far are not similar enough."""
    similarity = present["similarity"]
    out = np.zeros(len(present), np.bool_)
    if below is not None:
        out |= similarity.astype(np.float64) < below
    if lowest is not None:
        measured = np.flatnonzero(kept & ~np.isnan(similarity))
        order = np.lexsort((present["row"][measured], present["sample"][measured], similarity[measured]))
        out[measured[order[: math.floor(lowest * len(measured))]]] = True
    return out


def _ranks(samples: npt.NDArray[np.int64], kept: Bools) -> npt.NDArray[np.int64]:
    """The place of each pair among those of its sample that are kept; the pairs are sorted by sample, best first."""
    before: npt.NDArray[np.int64] = np.cumsum(kept, dtype=np.int64) - kept
    first = np.searchsorted(samples, samples)
    return before - before[first] if len(samples) else before


def _report(old: CounterpartStore, new: CounterpartStore, removed_rows: int, rewritten: int) -> PruneReport:
    had = np.diff(old.pair_ptr.numpy()) > 0
    have = np.diff(new.pair_ptr.numpy()) > 0
    return PruneReport(
        pairs=new.num_pairs,
        removed_pairs=old.num_pairs - new.num_pairs,
        rows=new.num_rows,
        removed_rows=removed_rows,
        unused_rows=new.num_rows - len(np.unique(new.pair_row.numpy())),
        covered=int(have.sum()),
        uncovered=int((had & ~have).sum()),
        rewritten_shards=rewritten,
        checksum=new.checksum,
    )
