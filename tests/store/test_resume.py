"""A writer that is resumed gives the bytes of an undisturbed one; tests/torture kills it at every moment."""

from __future__ import annotations

import os

import pytest
import torch

from diffcore_gpu.errors import StoreError
from diffcore_gpu.store import CounterpartStore, CounterpartWriter
from diffcore_gpu.store.provenance import FileContents
from tests.store import work


@pytest.fixture
def undisturbed(tmp_path):
    work.build(tmp_path / "undisturbed")
    return work.contents(tmp_path / "undisturbed")


def finish(path, num_rows=work.NUM_ROWS, **changes):
    with CounterpartWriter(path, **work.arguments(**changes), resume=True) as writer:
        work.complete(writer, num_rows)


def test_what_is_safe_after_an_exception(tmp_path, undisturbed):
    path = tmp_path / "s"
    with work.interrupted(path) as writer:
        for row in range(9):
            work.add(writer, row)
    assert not (path / "store.json").exists()
    with CounterpartWriter(path, **work.arguments(), resume=True) as writer:
        assert writer.num_rows == 8  # the last row may have lacked a pair, so it is to be added again
        assert writer.rows().label.tolist() == [row % 3 for row in range(8)]
        assert writer.rows().seed[7] == 6995
        assert writer.prompts == [f"a “{index}” in the snow" for index in (0, 1, 2, 3)]
        expected = [(sample, row) for row in range(8) for sample, _ in work.pairs_of(row)]
        assert list(zip(*(column.tolist() for column in writer.pairs()[:2]), strict=True)) == expected
        assert writer.num_pairs == len(expected)
        work.complete(writer)
    assert work.contents(path) == undisturbed


def test_only_flush_makes_durable_without_auto_flush(tmp_path, undisturbed):
    path = tmp_path / "s"
    with work.interrupted(path, auto_flush=False) as writer:
        for row in range(17):
            work.add(writer, row)
            if row == 8:
                writer.update_metadata({"generated": 9})
                writer.flush()
    with CounterpartWriter(path, **work.arguments(), auto_flush=False, resume=True) as writer:
        assert writer.num_rows == 9
        assert writer.metadata["generated"] == 9
        work.complete(writer)
    assert work.contents(path) == undisturbed


@pytest.mark.parametrize("flush_at", range(0, 11))
def test_where_a_flush_falls_leaves_no_trace(tmp_path, flush_at):
    with work.interrupted(tmp_path / "s") as writer:
        for row in range(10):
            if row == flush_at:
                writer.flush()
            work.add(writer, row)
    with CounterpartWriter(tmp_path / "s", **work.arguments(), resume=True) as writer:
        work.complete(writer)
    work.build(tmp_path / "t")
    assert work.contents(tmp_path / "s") == work.contents(tmp_path / "t")


def known(*samples: int, changed: int = -1) -> FileContents:
    """What is known of the files of some samples (none given: of all), one of them changed."""
    contents = FileContents.unknown(work.NUM_SAMPLES)
    for sample in samples or range(work.NUM_SAMPLES):
        contents.set([sample], [(1000 + sample, sample * 7 + (sample == changed))])
    return contents


def test_a_file_that_changed_is_named(tmp_path):
    with work.interrupted(tmp_path / "s", file_contents=known()) as writer:
        work.complete(writer, 9)
    for contents in (known(changed=4), known(4, 7, changed=4)):
        with pytest.raises(StoreError, match=r"the file of class 1/004\.jpg differs from the one that this store was"):
            CounterpartWriter(tmp_path / "s", **work.arguments(file_contents=contents), resume=True)
    with CounterpartWriter(tmp_path / "s", **work.arguments(file_contents=known()), resume=True) as writer:
        work.complete(writer)
    work.build(tmp_path / "t", file_contents=known())
    assert work.contents(tmp_path / "s") == work.contents(tmp_path / "t")
    with pytest.raises(StoreError, match=r"the file of class 2/011\.jpg differs"):
        CounterpartWriter(tmp_path / "s", **work.arguments(file_contents=known(changed=11)), resume=True)
    with pytest.raises(StoreError, match=r"the file of class 2/011\.jpg differs"):
        CounterpartWriter(tmp_path / "s", **work.arguments(file_contents=known(changed=11)), append=True)


def test_a_resumed_store_keeps_what_was_known_at_its_start(tmp_path):
    with work.interrupted(tmp_path / "s", file_contents=known(2, 5)) as writer:
        work.complete(writer, 9)
    with CounterpartWriter(tmp_path / "s", **work.arguments(file_contents=known()), resume=True) as writer:
        work.complete(writer)
    assert CounterpartStore.open(tmp_path / "s").file_contents.known.tolist() == [2, 5]


def test_unfinished_work_is_no_store(tmp_path):
    with work.interrupted(tmp_path / "s") as writer:
        work.add(writer, 0)
    with pytest.raises(StoreError, match=r"store\.json: missing; .*resume=True"):
        CounterpartStore.open(tmp_path / "s")
    with pytest.raises(StoreError, match="holds unfinished work; pass resume=True"):
        CounterpartWriter(tmp_path / "s", **work.arguments())


def test_overwrite_throws_unfinished_work_away(tmp_path):
    with work.interrupted(tmp_path / "s") as writer:
        work.add(writer, 0)
        writer.flush()
    with CounterpartWriter(tmp_path / "s", **work.arguments(), overwrite=True) as writer:
        assert writer.num_rows == 0


CHANGES = [
    ("num_samples", {"num_samples": 3, "labels": [0, 1, 2], "file_names": ["a", "b", "c"]}),
    ("image_shape", {"image_shape": (3, 6, 4)}),
    ("class_names", {"class_names": ["red", "green", "yellow"]}),
    ("labels", {"labels": [0] * 12}),
    ("file_names", {"file_names": work.NAMES[::-1]}),
    ("file_names", {"file_names": None}),
    ("rows_per_shard", {"rows_per_shard": 6}),
    ("metadata", {"metadata": {"model": "test", "guidance": 7}}),
]


@pytest.mark.parametrize(("name", "changes"), CHANGES)
def test_resuming_needs_the_same_arguments(tmp_path, name, changes):
    with work.interrupted(tmp_path / "s"):
        pass
    with pytest.raises(StoreError, match=f"the argument {name} differs"):
        CounterpartWriter(tmp_path / "s", **work.arguments(**changes), resume=True)


@pytest.mark.parametrize(("name", "changes"), CHANGES)
def test_resuming_a_finished_store_needs_the_same_arguments(tmp_path, name, changes):
    work.build(tmp_path / "s")
    with pytest.raises(StoreError, match=f"the argument {name} differs"):
        CounterpartWriter(tmp_path / "s", **work.arguments(**changes), resume=True)


def test_resuming_a_finished_store_changes_nothing(tmp_path):
    store = work.build(tmp_path / "s")
    before = work.contents(tmp_path / "s")
    with CounterpartWriter(tmp_path / "s", **work.arguments(), resume=True) as writer:
        assert writer.finished
        assert (writer.num_rows, writer.num_pairs, writer.prompts) == (store.num_rows, store.num_pairs, store.prompts)
        assert torch.equal(writer.rows().seed, store.row_seed())
        assert torch.equal(writer.pairs().row, store.pair_row)
        writer.flush()
        writer.update_metadata({"generated": work.NUM_ROWS})
        for change in (
            lambda: writer.add_row(work.image(0), label=0),
            lambda: writer.add_pair(11, 2),
            lambda: writer.update_metadata({"generated": 1}),
        ):
            with pytest.raises(StoreError, match="overwrite=True"):
                change()
    assert work.contents(tmp_path / "s") == before


FILES = ["settings.json", "progress.json", "rows.bin", "pairs.bin", "prompts.jsonl", "contents.bin"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied"])
def test_damaged_work_is_not_resumed(tmp_path, name, damage):
    with work.interrupted(tmp_path / "s", file_contents=known()) as writer:
        work.complete(writer, 9)
    path = tmp_path / "s" / "unfinished" / name
    raw = path.read_bytes()
    flipped = bytes([raw[0] ^ 1]) + raw[1:]
    path.write_bytes({"cut": raw[: len(raw) // 2], "flipped": flipped, "emptied": b""}[damage])
    with pytest.raises(StoreError, match=rf"{name}: damaged.*overwrite=True"):
        CounterpartWriter(tmp_path / "s", **work.arguments(), resume=True)


def test_a_cut_part_is_not_resumed(tmp_path):
    with work.interrupted(tmp_path / "s") as writer:
        work.complete(writer, 9)
    os.truncate(tmp_path / "s" / "unfinished" / "counterparts-00001.part", 4100)
    with pytest.raises(StoreError, match=r"counterparts-00001\.part: damaged.*overwrite=True"):
        CounterpartWriter(tmp_path / "s", **work.arguments(), resume=True)
