"""A writer that adds to a finished store."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffcore_gpu.errors import StoreError
from diffcore_gpu.store import CounterpartStore, CounterpartWriter, rebind
from diffcore_gpu.store.provenance import FileContents
from tests.store import work


def append(path, rows, **changes):
    with CounterpartWriter(path, **work.arguments(**changes), append=True) as writer:
        for row in rows:
            work.add(writer, row)
    return CounterpartStore.open(path)


@given(
    ends=st.lists(st.integers(0, work.NUM_ROWS), min_size=1, max_size=4).map(sorted),
    sizes=st.lists(st.integers(1, 9), min_size=6, max_size=6),
)
@settings(max_examples=25, deadline=None)
def test_grown_is_as_if_made_at_once(tmp_path_factory, ends, sizes):
    folder = tmp_path_factory.mktemp("append")
    with CounterpartWriter(folder / "grown", **work.arguments(rows_per_shard=sizes[5])) as writer:
        for row in range(ends[0]):
            work.add(writer, row)
    shards = CounterpartStore.open(folder / "grown").manifest.shards
    for begin, end, size in zip(ends, [*ends[1:], work.NUM_ROWS], sizes, strict=False):
        grown = append(folder / "grown", range(begin, end), rows_per_shard=size)
        assert grown.manifest.shards[: len(shards)] == shards
        shards = grown.manifest.shards
    grown.verify()
    with CounterpartWriter(folder / "made", **work.arguments()) as writer:
        for row in range(work.NUM_ROWS):
            work.add(writer, row)
    made = CounterpartStore.open(folder / "made")
    assert grown.manifest.pairs == made.manifest.pairs  # the same file, byte for byte
    assert grown.manifest.rows == made.manifest.rows
    assert grown.images(range(23)).equal(made.images(range(23)))
    assert (grown.prompts, grown.metadata) == (made.prompts, made.metadata)


def test_old_rows_get_new_pairs(tmp_path):
    store = work.build(tmp_path / "store")
    with CounterpartWriter(store.path, **work.arguments(), append=True) as writer:
        assert (writer.num_rows, writer.added, writer.base.checksum) == (23, (0, 0), store.checksum)
        writer.add_pair(11, 2, 0.75)
        with pytest.raises(StoreError, match=r"the pair of sample 1 and row .* is there already"):
            writer.add_pair(1, int(store.rows(1)[0]))
    now = CounterpartStore.open(store.path)
    now.verify()
    assert now.rows(11).tolist() == [2]
    assert (now.manifest.shards, now.manifest.rows) == (store.manifest.shards, store.manifest.rows)


def test_nothing_added_changes_nothing(tmp_path):
    store = work.build(tmp_path / "store")
    before = work.contents(store.path)
    assert append(store.path, [], metadata={"model": "another"}).checksum == store.checksum
    assert work.contents(store.path) == before


def test_each_operation_is_kept_with_its_metadata(tmp_path):
    store = work.build(tmp_path / "store")
    first = append(store.path, [23], metadata={"model": "second", "steps": 5})
    second = append(store.path, [24], metadata={"model": "third"})
    assert second.metadata == {**store.metadata, "model": "third", "steps": 5}
    assert [
        (entry["operation"], entry["before"], entry["rows"], entry["metadata"]) for entry in second.manifest.history
    ] == [
        ("append", store.checksum, [23, 24], store.metadata),
        ("append", first.checksum, [24, 25], first.metadata),
    ]
    assert set(second.manifest.superseded) == {first.manifest.rows.name, first.manifest.pairs.name}
    assert not (store.path / store.manifest.rows.name).exists()


def test_what_is_known_of_files_grows(tmp_path):
    def known(*samples):
        contents = FileContents.unknown(12)
        contents.set(samples, [(sample, sample) for sample in samples])
        return contents

    work.build(tmp_path / "store", file_contents=known(1, 2))
    now = append(tmp_path / "store", [23], file_contents=known(2, 7))
    assert now.file_contents.known.tolist() == [1, 2, 7]
    other = known(2)
    other.digest[2] = 99
    with pytest.raises(StoreError, match=r"the file of class 2/002.jpg differs"):
        append(tmp_path / "store", [24], file_contents=other)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"image_shape": (3, 4, 5)}, "image_shape"),
        ({"class_names": ["red", "green", "pink"]}, "class_names"),
        ({"labels": [*work.LABELS[:-1], 0]}, "labels"),
        ({"file_names": work.NAMES[::-1]}, "file_names"),
        ({"num_samples": 11, "labels": work.LABELS[:-1], "file_names": work.NAMES[:-1]}, "num_samples"),
    ],
)
def test_another_dataset(tmp_path, changes, name):
    store = work.build(tmp_path / "store")
    before = work.contents(store.path)
    with pytest.raises(StoreError, match=f"was made with another {name}; append what is for the same dataset"):
        append(store.path, [], **changes)
    assert work.contents(store.path) == before


def test_stores_that_cannot_be_added_to(tmp_path):
    with pytest.raises(StoreError, match="holds no finished store to append to"):
        append(tmp_path / "none", [])
    store = work.build(tmp_path / "store")
    with pytest.raises(StoreError, match="give one of append, to add to the store, and overwrite"):
        append(store.path, [], overwrite=True)
    with pytest.raises(StoreError, match="pass overwrite=True to replace it, or append=True to add to it"):
        CounterpartWriter(store.path, **work.arguments())


def test_interrupted_and_resumed(tmp_path):
    undisturbed = work.build(tmp_path / "undisturbed")
    append(undisturbed.path, range(23, 37))
    store = work.build(tmp_path / "store")
    for stop in (25, 31, 33):
        with work.interrupted(store.path, append=True, resume=True) as writer:
            for row in range(writer.num_rows, stop):
                work.add(writer, row)
            writer.flush()
        assert CounterpartStore.open(store.path).checksum == store.checksum
    with pytest.raises(StoreError, match="holds unfinished work; pass resume=True"):
        append(store.path, [])
    with pytest.raises(StoreError, match="holds unfinished work that adds to its store; pass append=True"):
        CounterpartWriter(store.path, **work.arguments(), resume=True)
    with pytest.raises(StoreError, match="the argument metadata differs"):
        append(store.path, [], resume=True, metadata={})
    with CounterpartWriter(store.path, **work.arguments(), append=True, resume=True) as writer:
        assert (writer.num_rows, writer.added[0]) == (33, 10)
        for row in range(33, 37):
            work.add(writer, row)
    assert work.contents(store.path) == work.contents(undisturbed.path)


def test_unfinished_work_of_another_store(tmp_path):
    store = work.build(tmp_path / "store")
    with work.interrupted(store.path, append=True) as writer:
        work.add(writer, 23)
        writer.flush()
    other = work.build(tmp_path / "other", metadata={"model": "other"})
    for path in other.path.iterdir():
        path.replace(store.path / path.name)
    with pytest.raises(StoreError, match="has changed since the unfinished work in it was begun"):
        append(store.path, [], resume=True)


def test_after_a_class_was_lost(tmp_path):
    store = work.build(tmp_path / "store")
    left = [sample for sample in range(12) if sample % 3]
    changes = {
        "class_names": ["green", "blue"],
        "labels": [sample % 3 - 1 for sample in left],
        "file_names": [work.NAMES[sample] for sample in left],
    }
    rebind(store.path, [None] * 8, **changes)
    with CounterpartWriter(store.path, **work.arguments(num_samples=8, **changes), append=True) as writer:
        writer.add_pair(3, writer.add_row(work.image(99), label=writer.base.labels[3]))
    now = CounterpartStore.open(store.path)
    now.verify()
    assert now.class_names == ["green", "blue", "red"]
    assert 23 in now.rows(3).tolist()
