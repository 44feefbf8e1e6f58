"""Stores made in parts become one, as if it had been made at once."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffcore_gpu.errors import StoreError
from diffcore_gpu.store import CounterpartStore, CounterpartWriter, merge
from diffcore_gpu.store.provenance import FileContents
from tests.store import work

PROMPTS = [None if row % 6 == 5 else f"a “{row % 4}” in the snow" for row in range(work.NUM_ROWS)]


def part(path, rows, **changes):
    """A store of some rows of the small store, with their pairs."""
    with CounterpartWriter(path, **work.arguments(**changes)) as writer:
        for row in rows:
            new = writer.add_row(
                work.image(row), label=row % 3, prompt=PROMPTS[row], seed=row * 1000 - 5, attempt=row % 2, source=row
            )
            for sample, similarity in work.pairs_of(row):
                writer.add_pair(sample, new, similarity)
    return CounterpartStore.open(path)


def rows_of(store):
    """Each row as what it is, with its pairs."""
    of_row = {row: set() for row in range(store.num_rows)}
    for sample in range(store.num_samples):
        for row, similarity in zip(store.rows(sample).tolist(), store.similarities(sample).tolist(), strict=True):
            of_row[row].add((sample, "none" if math.isnan(similarity) else similarity))
    found = []
    for row in range(store.num_rows):
        prompt = int(store.row_prompt([row]))
        columns = tuple(int(store.row_column(name, [row])) for name in ("label", "seed", "attempt", "source"))
        text = None if prompt < 0 else store.prompts[prompt]
        found.append((store.image(row).numpy().tobytes(), columns, text, frozenset(of_row[row])))
    return found


@given(
    parts=st.lists(st.lists(st.integers(0, work.NUM_ROWS - 1), unique=True), min_size=2, max_size=4),
    sizes=st.lists(st.integers(1, 9), min_size=4, max_size=4),
)
@settings(max_examples=25, deadline=None)
def test_merged_is_as_if_made_at_once(tmp_path_factory, parts, sizes):
    folder = tmp_path_factory.mktemp("merge")
    stores = [
        part(folder / f"part{number}", rows, rows_per_shard=sizes[number]).path for number, rows in enumerate(parts)
    ]
    report = merge(folder / "merged", stores)
    merged = CounterpartStore.open(folder / "merged")
    merged.verify()
    order = list(dict.fromkeys(row for rows in parts for row in rows))
    made = part(folder / "made", order)
    assert rows_of(merged) == rows_of(made)
    assert merged.manifest.pairs == made.manifest.pairs  # the same file, byte for byte
    assert merged.manifest.rows == made.manifest.rows
    assert (merged.prompts, merged.metadata, merged.fingerprint) == (made.prompts, made.metadata, made.fingerprint)
    assert report.duplicate_rows == sum(map(len, parts)) - len(order)
    assert (report.rows, report.pairs, report.checksum) == (made.num_rows, made.num_pairs, merged.checksum)


def test_shards_are_linked_where_no_row_is_left_out(tmp_path):
    first, second = part(tmp_path / "a", range(12)), part(tmp_path / "b", range(9, 23))
    report = merge(tmp_path / "merged", [first.path, second.path])
    merged = CounterpartStore.open(tmp_path / "merged")
    # b has 9 to 13, of which a has 9, 10 and 11; 14 to 18; 19 to 22
    assert (report.linked_shards, report.copied_shards, report.rewritten_shards) == (5, 0, 1)
    inodes = [(merged.path / shard.name).stat().st_ino for shard in merged.manifest.shards]
    assert inodes[:3] == [(first.path / shard.name).stat().st_ino for shard in first.manifest.shards]
    assert inodes[4:] == [(second.path / shard.name).stat().st_ino for shard in second.manifest.shards[1:]]
    assert [shard.rows for shard in merged.manifest.shards] == [5, 5, 2, 2, 5, 4]


@pytest.mark.parametrize("how", ["asked", "no links here"])
def test_shards_are_copied(tmp_path, monkeypatch, how):
    stores = [part(tmp_path / "a", range(12)).path, part(tmp_path / "b", range(12, 23)).path]

    def refuse(*arguments):
        raise OSError(18, "Invalid cross-device link")

    if how != "asked":
        monkeypatch.setattr(os, "link", refuse)
    report = merge(tmp_path / "merged", stores, link=how != "asked")
    assert (report.linked_shards, report.copied_shards) == (0, 6)
    merged = CounterpartStore.open(tmp_path / "merged")
    merged.verify()
    assert all((merged.path / shard.name).stat().st_nlink == 1 for shard in merged.manifest.shards)
    assert rows_of(merged) == rows_of(work.build(tmp_path / "whole")) or merged.num_rows == 23


def test_a_damaged_shard_is_not_copied(tmp_path):
    first, second = part(tmp_path / "a", range(12)), part(tmp_path / "b", range(12, 23))
    shard = second.path / second.manifest.shards[0].name
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    with pytest.raises(StoreError, match=f"{shard.name}: damaged"):
        merge(tmp_path / "merged", [first.path, second.path], link=False)
    assert list((tmp_path / "merged").iterdir()) == []


def test_what_each_was_made_with_is_kept(tmp_path):
    stores = [
        part(tmp_path / str(number), range(number, number + 3), metadata={"model": "test", "host": number})
        for number in range(3)
    ]
    merge(tmp_path / "merged", [store.path for store in stores])
    merged = CounterpartStore.open(tmp_path / "merged")
    assert merged.metadata == {"model": "test"}
    (entry,) = merged.manifest.history
    assert entry["operation"] == "merge"
    assert [(p["checksum"], p["metadata"]["host"], p["rows"]) for p in entry["stores"]] == [
        (store.checksum, number, 3) for number, store in enumerate(stores)
    ]


def test_done_twice_is_done_once(tmp_path):
    stores = [part(tmp_path / "a", range(12)).path, part(tmp_path / "b", range(9, 23)).path]
    report = merge(tmp_path / "merged", stores)
    before = work.contents(tmp_path / "merged")
    again = merge(tmp_path / "merged", stores)
    assert (again.checksum, again.duplicate_rows, again.pairs) == (report.checksum, 3, report.pairs)
    assert work.contents(tmp_path / "merged") == before
    with pytest.raises(StoreError, match="merged: holds a finished store"):
        merge(tmp_path / "merged", stores[::-1])


def test_a_similarity_that_one_has_measured_counts(tmp_path):
    for name, similarity in (("a", math.nan), ("b", 0.25), ("c", 0.5)):
        with CounterpartWriter(tmp_path / name, **work.arguments()) as writer:
            writer.add_pair(0, writer.add_row(work.image(0), label=0), similarity)
    report = merge(tmp_path / "merged", [tmp_path / "a", tmp_path / "b", tmp_path / "c"])
    assert CounterpartStore.open(tmp_path / "merged").similarities(0).tolist() == [0.25]
    assert (report.rows, report.duplicate_rows, report.duplicate_pairs) == (1, 2, 2)


def contents(**known):
    files = FileContents.unknown(work.NUM_SAMPLES)
    for sample, content in known.items():
        files.set([int(sample[1:])], [content])
    return files


def test_what_is_known_of_files_is_joined(tmp_path):
    part(tmp_path / "a", range(3), file_contents=contents(s1=(7, 70), s2=(8, 80)))
    part(tmp_path / "b", range(3, 6), file_contents=contents(s2=(8, 80), s5=(9, 90)))
    part(tmp_path / "c", range(3, 6))
    merge(tmp_path / "merged", [tmp_path / "a", tmp_path / "b", tmp_path / "c"])
    merged = CounterpartStore.open(tmp_path / "merged").file_contents
    assert merged.known.tolist() == [1, 2, 5]
    assert merged.digest[[1, 2, 5]].tolist() == [70, 80, 90]


OTHER = [
    ({"file_contents": contents(s3=(7, 71))}, "when the file of sample 3 held something else"),
    ({"class_names": ["red", "green", "pink"]}, "has other class names than .*: class 2 is 'pink', not 'blue'"),
    ({"file_names": [*work.NAMES[:-1], "other"]}, "made for another dataset than .*: sample 11 is another file"),
    ({"file_names": None}, "only one of them knows the names"),
    ({"labels": [*work.LABELS[:-1], 0]}, "sample 11 has another label"),
    ({"labels": work.LABELS[:-1], "num_samples": 11, "file_names": None}, "11 samples, not 12"),
]


@pytest.mark.parametrize(("changes", "message"), OTHER)
def test_stores_that_do_not_fit_together(tmp_path, changes, message):
    first = part(tmp_path / "a", range(3), file_contents=contents(s3=(7, 70)))
    part(tmp_path / "b", range(3, 6), **changes)
    with pytest.raises(StoreError, match=message):
        merge(tmp_path / "merged", [first.path, tmp_path / "b"])
    assert not (tmp_path / "merged").exists()


def test_images_of_another_shape(tmp_path):
    part(tmp_path / "a", range(3))
    with CounterpartWriter(tmp_path / "b", **work.arguments(image_shape=(3, 4, 5))) as writer:
        writer.add_row(np.zeros((3, 4, 5), np.uint8), label=0)
    with pytest.raises(StoreError, match=r"has images of 3×4×5, where those of .* are 3×4×6"):
        merge(tmp_path / "merged", [tmp_path / "a", tmp_path / "b"])


def test_places_that_cannot_be(tmp_path):
    stores = [part(tmp_path / "a", range(3)).path, part(tmp_path / "b", range(3, 6)).path]
    with pytest.raises(StoreError, match="at least two stores"):
        merge(tmp_path / "merged", stores[:1])
    with pytest.raises(StoreError, match="is one of the stores to merge"):
        merge(stores[0], stores)
    with pytest.raises(StoreError, match="version 1, which cannot be merged; convert it first"):
        merge(tmp_path / "merged", [*stores, Path(__file__).parents[1] / "version1"])
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="is a file"):
        merge(tmp_path / "file", stores)
