"""A store for a dataset that has gained, lost or renamed samples and classes since the store was made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from diffcore_gpu.errors import StoreError
from diffcore_gpu.store import checks
from diffcore_gpu.store.binding import dataset_file_names, dataset_labels, indexed_by
from diffcore_gpu.store.fingerprint import Int64Array, as_labels, fingerprint_of, name_digests
from diffcore_gpu.store.growth.matching import Matching, Samples, match
from diffcore_gpu.store.growth.staging import Staging, manifest_after
from diffcore_gpu.store.provenance import FileContents
from diffcore_gpu.store.reader import CounterpartStore
from diffcore_gpu.store.tables import write_pairs, write_rows, written_pairs, written_rows

Changed: TypeAlias = Literal["refuse", "drop", "keep"]
"""What is done about samples whose content is another: an error, or their pairs are dropped, or kept."""
Ambiguous: TypeAlias = Literal["refuse", "drop"]
"""What is done about samples that may be several: an error, or they are taken for lost."""

_NAMED = 5  # samples in a message


@dataclass(frozen=True)
class RebindReport:
    """What was matched how. Samples are numbers of the dataset that the store was made for, or of the new one.

    Attributes:
        samples: of the new dataset.
        same: samples that were found by their key.
        renamed: [old, new] samples that were found by their content under another key.
        gained: new samples that the store does not know.
        lost: old samples that are gone.
        changed: [old, new] samples of the same key and other content.
        ambiguous: [[old samples], [new samples]] of equal content, of which nothing says which is which.
        moved: [old, new] samples that belong to another class now; their pairs are gone.
        gained_classes: names of classes that the store does not know.
        lost_classes: names of classes that the dataset does not have any more. Their rows stay, and so do their names,
            behind those of the dataset, where they have rows.
        renamed_classes: for a class's old name the new one, where all samples of it that were found are in one new
            class.
        pairs: of the store as it is now.
        removed_pairs: that are gone.
        unused_rows: rows that served a sample and serve none any more; they stay.
        checksum: of the store as it is now.
    """

    samples: int
    same: int
    renamed: list[list[int]]
    gained: list[int]
    lost: list[int]
    changed: list[list[int]]
    ambiguous: list[list[list[int]]]
    moved: list[list[int]]
    gained_classes: list[str]
    lost_classes: list[str]
    renamed_classes: dict[str, str]
    pairs: int
    removed_pairs: int
    unused_rows: int
    checksum: str


def rebind(
    path: str | Path,
    dataset: object,
    *,
    class_names: Sequence[str] | None = None,
    labels: Sequence[int] | torch.Tensor | npt.NDArray[Any] | None = None,
    file_names: Sequence[str] | None = None,
    file_contents: FileContents | None = None,
    changed: Changed = "refuse",
    ambiguous: Ambiguous = "refuse",
) -> RebindReport:
    """Bind a store to a dataset that has gained, lost or renamed samples and classes; only the tables change.

    Samples are found by their key, and by the content of their files where those were renamed or moved and both sides
    know it. Classes are found by their name. Rows whose samples are all gone stay, without pairs.

    Args:
        path: the store's folder.
        dataset: what it is to be bound to, as in `CounterpartStore.bind`.
        class_names: the name of each class by its number, all different; None: the dataset's `classes`.
        labels: the class number of each sample, where the dataset does not show them.
        file_names: the key of each sample, relative to the dataset's folder with `/` as separator, where the dataset
            does not show them.
        file_contents: what is known of the content of each sample's file; `contents_of` finds it out.
        changed: what to do about samples that have the same key and another content: "refuse", or "drop" their pairs,
            or "keep" them.
        ambiguous: what to do about samples of equal content of which nothing says which is which: "refuse", or "drop"
            their pairs.

    Raises:
        StoreError: samples have changed or are ambiguous, and nothing was said about them: then the first are named; no
            sample can be found; labels or class names cannot be found in the dataset, or are impossible; or the store
            is unfinished, of version 1 or cannot be written.
        ValueError: `changed` or `ambiguous` is something else.
    """
    if changed not in ("refuse", "drop", "keep"):
        raise ValueError(f"changed must be 'refuse', 'drop' or 'keep', got {changed!r}.")
    if ambiguous not in ("refuse", "drop"):
        raise ValueError(f"ambiguous must be 'refuse' or 'drop', got {ambiguous!r}.")
    with Staging(path) as staging:
        store = staging.open()
        new = _dataset(store, dataset, class_names, labels, file_names, file_contents)
        keys = None if store.file_name_digests is None else store.file_name_digests.numpy()
        found = match(
            Samples(keys, store.file_contents, store.num_samples),
            Samples(new.keys, new.contents, len(new.labels)),
        )
        _refuse(store, new, found, changed, ambiguous)
        classes = _match_classes(store, new, found)
        pairs, moved = _kept_pairs(store, new, found, classes, drop_changed=changed == "drop")
        is_other = _publish(staging, store, new, classes, pairs, found)
        rebound = staging.open() if is_other else store
        return _report(store, rebound, new, found, classes, moved)


class _Dataset(NamedTuple):
    """What the store is bound to, in the form of its own tables."""

    class_names: tuple[str, ...]
    labels: Int64Array
    file_names: Sequence[str] | None
    keys: Int64Array | None
    contents: FileContents | None

    def name(self, sample: int) -> str:
        return f"sample {sample}" if self.file_names is None else repr(self.file_names[sample])


def _dataset(
    store: CounterpartStore,
    dataset: object,
    class_names: Sequence[str] | None,
    labels: Sequence[int] | torch.Tensor | npt.NDArray[Any] | None,
    file_names: Sequence[str] | None,
    contents: FileContents | None,
) -> _Dataset:
    dataset = indexed_by(dataset)
    if class_names is None:
        class_names = getattr(dataset, "classes", None)
    found = dataset_labels(dataset) if labels is None else as_labels(labels)
    if class_names is None or found is None:
        what = "class names" if class_names is None else "labels"
        raise StoreError(f"{store.path}: this {type(dataset).__name__} does not show its {what}; pass them.")
    names = checks.class_names("class_names", list(class_names))
    count = checks.count("the number of samples", len(found))
    if file_names is None:
        file_names = dataset_file_names(dataset)
    keys = None if file_names is None else name_digests(file_names)
    for what, values in (("file_names", keys), ("file_contents", None if contents is None else contents.size)):
        if values is not None and len(values) != count:
            raise StoreError(f"{what}: {len(values)} of them for {count} samples.")
    if (keys is None or store.file_name_digests is None) and (contents is None or store.file_contents is None):
        raise StoreError(
            f"{store.path}: the store and the dataset do not both know the keys of their samples, nor both the "
            "contents of their files, so no sample can be found again."
        )
    return _Dataset(names, checks.dataset_labels(found, count, len(names)), file_names, keys, contents)


def _refuse(store: CounterpartStore, new: _Dataset, found: Matching, changed: Changed, ambiguous: Ambiguous) -> None:
    if not (found.new_of >= 0).any() and not found.ambiguous:
        raise StoreError(
            f"{store.path}: none of its {store.num_samples} samples is found in the dataset; it is another dataset, or "
            "its files were renamed and the store does not know what they hold."
        )
    if found.changed and changed == "refuse":
        listed = ", ".join(new.name(sample) for _, sample in found.changed[:_NAMED])
        raise StoreError(
            f"{store.path}: the files of {len(found.changed)} samples hold something else than when the store was made "
            f"({listed}{', …' if len(found.changed) > _NAMED else ''}); say whether their pairs are to be dropped or "
            "kept."
        )
    if found.ambiguous and ambiguous == "refuse":
        olds, news = found.ambiguous[0]
        listed = ", ".join(new.name(sample) for sample in news[:_NAMED])
        raise StoreError(
            f"{store.path}: {sum(len(olds) for olds, _ in found.ambiguous)} samples cannot be told from others of "
            f"equal content, first {listed} and the former {', '.join(map(str, olds[:_NAMED]))}; give them their names "
            "again, or say that their pairs are to be dropped."
        )


class _Classes(NamedTuple):
    """The class names of the store as it will be, the new label of each old class, int64 [K], and what became of it."""

    names: tuple[str, ...]
    label_of: Int64Array
    renamed: dict[str, str]
    lost: list[str]


def _match_classes(store: CounterpartStore, new: _Dataset, found: Matching) -> _Classes:
    number = {name: label for label, name in enumerate(new.class_names)}
    label_of = np.array([number.get(name, -1) for name in store.class_names], np.int64)
    renamed = _renamed(store, new, found, label_of)
    with_rows = set(store.row_label().tolist())
    names, lost = list(new.class_names), []
    for label, name in enumerate(store.class_names):
        if label in renamed:
            label_of[label] = renamed[label]
        elif label_of[label] < 0:
            lost.append(name)
            if label in with_rows:
                label_of[label] = len(names)
                names.append(name)
    by_name = {store.class_names[label]: new.class_names[number] for label, number in renamed.items()}
    return _Classes(tuple(names), label_of, by_name, lost)


def _renamed(store: CounterpartStore, new: _Dataset, found: Matching, label_of: Int64Array) -> dict[int, int]:
    """Old classes without their name whose samples, as far as they were found, are the whole of one new class's."""
    known = set(label_of.tolist())
    matched = np.flatnonzero(found.new_of >= 0)
    was, is_ = store.labels.numpy()[matched], new.labels[found.new_of[matched]]
    renamed = {}
    for label in np.flatnonzero(label_of < 0).tolist():
        targets = np.unique(is_[was == label])
        if len(targets) == 1 and int(targets[0]) not in known and (was[is_ == targets[0]] == label).all():
            renamed[label] = int(targets[0])
    return renamed


def _kept_pairs(
    store: CounterpartStore, new: _Dataset, found: Matching, classes: _Classes, *, drop_changed: bool
) -> tuple[npt.NDArray[Any], list[list[int]]]:
    """The pairs that stay, with the new samples; and the [old, new] samples that belong to another class now."""
    target = found.new_of.copy()
    if drop_changed and found.changed:
        target[[sample for sample, _ in found.changed]] = -1
    matched = np.flatnonzero(target >= 0)
    away = classes.label_of[store.labels.numpy()[matched]] != new.labels[target[matched]]
    moved = [[int(sample), int(target[sample])] for sample in matched[away]]
    target[matched[away]] = -1
    pairs = written_pairs(store)
    pairs["sample"] = target[pairs["sample"]]
    return pairs[pairs["sample"] >= 0], moved


def _publish(
    staging: Staging,
    store: CounterpartStore,
    new: _Dataset,
    classes: _Classes,
    pairs: npt.NDArray[Any],
    found: Matching,
) -> bool:
    """Swap the new tables in; False where they are those that are there."""
    folder, old = staging.folder(), store.manifest
    rows = written_rows(store)
    rows["label"] = classes.label_of[rows["label"]]
    contents = new.contents
    if contents is None and store.file_contents is not None:
        contents = FileContents.unknown(len(new.labels))
        kept = np.flatnonzero(found.new_of >= 0)
        contents.size[found.new_of[kept]] = store.file_contents.size[kept]
        contents.digest[found.new_of[kept]] = store.file_contents.digest[kept]
    fields = {
        "class_names": classes.names,
        "fingerprint": fingerprint_of(new.labels, new.keys),
        "rows": write_rows(folder, rows),
        "pairs": write_pairs(folder, pairs, new.labels, new.keys, contents),
        "num_pairs": len(pairs),
    }
    if all(getattr(old, name) == value for name, value in fields.items()):
        return False
    about = {
        "samples": [store.num_samples, len(new.labels)],
        "pairs": [store.num_pairs, len(pairs)],
        "class_names": store.class_names,
    }
    staging.publish(manifest_after(old, "rebind", about, **fields))
    return True


def _report(
    old: CounterpartStore,
    new: CounterpartStore,
    dataset: _Dataset,
    found: Matching,
    classes: _Classes,
    moved: list[list[int]],
) -> RebindReport:
    present = set(old.class_names) | set(classes.renamed.values())
    served = set(old.pair_row.tolist())
    return RebindReport(
        samples=new.num_samples,
        same=found.by_key,
        renamed=[list(pair) for pair in found.renamed],
        gained=sorted(set(range(new.num_samples)) - set(found.new_of.tolist())),
        lost=np.flatnonzero(found.new_of < 0).tolist(),
        changed=[list(pair) for pair in found.changed],
        ambiguous=[[olds, news] for olds, news in found.ambiguous],
        moved=moved,
        gained_classes=[name for name in dataset.class_names if name not in present],
        lost_classes=classes.lost,
        renamed_classes=classes.renamed,
        pairs=new.num_pairs,
        removed_pairs=old.num_pairs - new.num_pairs,
        unused_rows=len(served - set(new.pair_row.tolist())),
        checksum=new.checksum,
    )
