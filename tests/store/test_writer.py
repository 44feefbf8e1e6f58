"""What the writer refuses, and what it leaves on disk."""

from __future__ import annotations

import hashlib
import json
import math
import textwrap

import numpy as np
import pytest
import torch
import xxhash
from safetensors import safe_open

from diffcore_gpu.errors import StoreError
from diffcore_gpu.store import CounterpartStore, CounterpartWriter
from diffcore_gpu.store.tensorfile import DATA_START
from tests.programs import run_python
from tests.store import work


def test_any_safetensors_reader_reads_the_same(tmp_path):
    store = work.build(tmp_path / "store")
    manifest, row = store.manifest, 0
    for index, shard in enumerate(store.image_shards):
        with safe_open(store.path / manifest.shards[index].name, "pt") as file:
            assert set(file.keys()) == {"images"}
            rows = list(range(row, row + len(shard)))
            assert torch.equal(file.get_tensor("images"), store.images(rows))
            row += len(shard)
    assert row == work.NUM_ROWS
    with safe_open(store.path / manifest.rows.name, "pt") as file:
        assert set(file.keys()) == {"label", "seed", "prompt", "attempt", "digest", "source"}
        for name in file.keys():  # noqa: SIM118  a safetensors file has no iterator
            ours, theirs = store.row_column(name), file.get_tensor(name)
            assert ours.dtype == theirs.dtype
            assert torch.equal(ours, theirs)
    assert store.row_column("digest").tolist() == [
        int.from_bytes(xxhash.xxh3_64_digest(work.image(row).tobytes()), signed=True) for row in range(work.NUM_ROWS)
    ]
    with safe_open(store.path / manifest.pairs.name, "pt") as file:
        assert torch.equal(file.get_tensor("pair_ptr"), store.pair_ptr)
        assert torch.equal(file.get_tensor("pair_row"), store.pair_row)
        torch.testing.assert_close(
            file.get_tensor("pair_similarity"), store.pair_similarity, rtol=0, atol=0, equal_nan=True
        )
        assert file.get_tensor("label").tolist() == work.LABELS


def test_images_begin_on_a_page(tmp_path):
    store = work.build(tmp_path / "store")
    raw = (store.path / store.manifest.shards[0].name).read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    assert 8 + length + header["images"]["data_offsets"][0] == DATA_START == 4096
    assert raw[DATA_START : DATA_START + work.image(0).size] == work.image(0).tobytes()


def names_of(store):
    """The files that a store's folder should hold, each named by its content."""
    names = [file.name for file in store.manifest.files]
    for name in names:
        assert hashlib.sha256((store.path / name).read_bytes()).hexdigest()[:12] in name
    return sorted([*names, "store.json"])


def test_only_the_store_is_left(tmp_path):
    store = work.build(tmp_path / "store")
    assert sorted(path.name for path in store.path.iterdir()) == names_of(store)
    assert [name[:19] for name in names_of(store)[:5]] == [f"counterparts-{i:05d}-" for i in range(5)]


def test_pairs_come_best_first(tmp_path):
    with CounterpartWriter(tmp_path / "s", **work.arguments(labels=[0] * 12, file_names=None)) as writer:
        for row in range(6):
            writer.add_row(work.image(row), label=0)
        for row, similarity in ((5, math.nan), (3, 0.5), (2, -math.nan), (4, 0.5), (0, 0.25), (1, 0.75)):
            writer.add_pair(2, row, similarity)
    store = CounterpartStore.open(tmp_path / "s")
    assert store.rows(2).tolist() == [1, 3, 4, 0, 2, 5]
    assert store.similarities(2)[:4].tolist() == [0.75, 0.5, 0.5, 0.25]
    assert store.similarities(2)[4:].isnan().all()
    assert store.rows(3).tolist() == []
    store.verify()


def test_the_order_of_adding_pairs_leaves_no_trace(tmp_path):
    for name, flip in (("a", 1), ("b", -1)):
        with CounterpartWriter(tmp_path / name, **work.arguments()) as writer:
            pairs = []
            for row in range(work.NUM_ROWS):
                writer.add_row(work.image(row), label=row % 3)
                pairs += [(sample, row, similarity) for sample, similarity in work.pairs_of(row)]
            for pair in pairs[::flip]:
                writer.add_pair(*pair)
    assert work.contents(tmp_path / "a") == work.contents(tmp_path / "b")


def test_add_pairs_is_add_pair_for_many(tmp_path):
    with CounterpartWriter(tmp_path / "s", **work.arguments()) as writer:
        for row in range(work.NUM_ROWS):
            writer.add_row(
                work.image(row),
                label=row % 3,
                prompt=None if row % 6 == 5 else f"a “{row % 4}” in the snow",
                seed=row * 1000 - 5,
                attempt=row % 2,
            )
        pairs = [(sample, row, value) for row in range(work.NUM_ROWS) for sample, value in work.pairs_of(row)]
        samples, rows, values = zip(*pairs, strict=True)
        writer.add_pairs(torch.tensor(samples[:20]), np.array(rows[:20]), torch.tensor(values[:20]))
        writer.add_pairs(samples[20:], rows[20:], values[20:])
        writer.update_metadata({"generated": work.NUM_ROWS})
    work.build(tmp_path / "t")
    assert work.contents(tmp_path / "s") == work.contents(tmp_path / "t")


@pytest.mark.parametrize(
    "make",
    [
        lambda array: torch.from_numpy(array),
        lambda array: torch.from_numpy(array.transpose(1, 2, 0).copy()).permute(2, 0, 1),
        lambda array: np.asfortranarray(array),
    ],
    ids=["torch", "channels last", "fortran"],
)
def test_an_image_may_have_any_strides(tmp_path, make):
    with CounterpartWriter(tmp_path / "s", **work.arguments()) as writer:
        writer.add_row(make(work.image(4)), label=0)
    assert np.array_equal(CounterpartStore.open(tmp_path / "s").images([0])[0].numpy(), work.image(4))


@pytest.mark.parametrize(
    ("image", "changes", "cause"),
    [
        (np.zeros((3, 4, 6), np.float32), {}, "uint8"),
        (torch.zeros(3, 4, 6), {}, "uint8"),
        ([[0]], {}, "list"),
        (np.zeros((3, 6, 4), np.uint8), {}, r"\[3, 4, 6\], not \[3, 6, 4\]"),
        (np.zeros((4, 6), np.uint8), {}, "shape"),
        (None, {"label": 3}, r"label 3 is outside \[0, 2\]"),
        (None, {"label": -1}, "label -1"),
        (None, {"label": 1.0}, "label must be an integer"),
        (None, {"label": True}, "label must be an integer"),
        (None, {"seed": 1 << 63}, "seed"),
        (None, {"attempt": 1 << 15}, "attempt"),
        (None, {"prompt": 7}, "prompt must be a string"),
        (None, {"prompt": ["x"]}, "prompt must be a string"),
        (None, {"prompt": "\ud800"}, "not valid Unicode"),
    ],
)
def test_a_bad_row_is_refused_and_leaves_no_trace(tmp_path, image, changes, cause):
    with CounterpartWriter(tmp_path / "s", **work.arguments()) as writer:
        for row in range(work.NUM_ROWS):
            with pytest.raises(StoreError, match=cause):
                writer.add_row(work.image(0) if image is None else image, **{"label": 0, "seed": 1, **changes})
            work.add(writer, row)
        writer.update_metadata({"generated": work.NUM_ROWS})
    work.build(tmp_path / "t")
    assert work.contents(tmp_path / "s") == work.contents(tmp_path / "t")


@pytest.mark.parametrize(
    ("pair", "cause"),
    [
        ((12, 0, 0.1), "sample 12 is outside"),
        ((-1, 0, 0.1), "sample -1"),
        ((0, 2, 0.1), "row 2 is outside"),
        ((0, -1, 0.1), "row -1"),
        ((0, 1, 0.1), "row 1 has label 1, and sample 0 has label 0"),
        ((3, 0, 0.1), "sample 3 and row 0"),
        ((0, 0, math.inf), "finite"),
        ((0, 0, 1e39), "finite"),
    ],
)
def test_a_bad_pair_is_refused(tmp_path, pair, cause):
    with CounterpartWriter(tmp_path / "s", **work.arguments()) as writer:
        writer.add_row(work.image(0), label=0)
        writer.add_row(work.image(1), label=1)
        writer.add_pair(3, 0, 0.5)
        with pytest.raises(StoreError, match=cause):
            writer.add_pair(*pair)
        with pytest.raises(StoreError, match=cause):
            writer.add_pairs([6, pair[0]], [0, pair[1]], [0.5, pair[2]])
        with pytest.raises(StoreError, match="number"):
            writer.add_pair(0, 0, "high")
        assert writer.num_pairs == 1
        writer.add_pair(6, 0)
    assert CounterpartStore.open(tmp_path / "s").rows(6).tolist() == [0]


def test_duplicates_are_found_in_any_order(tmp_path):
    with CounterpartWriter(tmp_path / "s", **work.arguments(labels=[0] * 12)) as writer:
        for row in range(8):
            writer.add_row(work.image(row), label=0)
        for row in (1, 5, 2, 7, 0):
            writer.add_pair(4, row)
        for row in (1, 5, 2, 7, 0):
            with pytest.raises(StoreError, match="there already"):
                writer.add_pair(4, row)
        with pytest.raises(StoreError, match="given twice"):
            writer.add_pairs([4, 4], [3, 3])
        with pytest.raises(StoreError, match="there already"):
            writer.add_pairs([4, 4], [3, 7])
        writer.add_pairs([4, 4], [6, 3])
        with pytest.raises(StoreError, match="there already"):
            writer.add_pair(4, 3)
        assert writer.num_pairs == 7


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"num_samples": 0}, "num_samples"),
        ({"num_samples": 13}, "12 labels for 13 samples"),
        ({"image_shape": (3, 4)}, "image_shape"),
        ({"image_shape": (3, 0, 4)}, "image_shape"),
        ({"class_names": []}, "class_names"),
        ({"class_names": "red"}, "class_names"),
        ({"class_names": ["red", "green"]}, "sample 2 has label 2, and there are 2 classes"),
        ({"labels": [0.5] * 12}, "labels"),
        ({"labels": [[0]] * 12}, "labels"),
        ({"labels": [0, [1]]}, "labels"),
        ({"labels": [-1] * 12}, "sample 0 has label -1"),
        ({"file_names": ["a"]}, "1 names for 12 samples"),
        ({"file_names": [1] * 12}, "file_names"),
        ({"metadata": {"x": math.nan}}, "metadata"),
        ({"metadata": {"x": object()}}, "metadata"),
        ({"metadata": {"x": "\ud800"}}, "metadata"),
        ({"rows_per_shard": 0}, "rows_per_shard"),
    ],
)
def test_impossible_arguments(tmp_path, changes, cause):
    with pytest.raises(StoreError, match=cause):
        CounterpartWriter(tmp_path / "s", **work.arguments(**changes))
    assert not (tmp_path / "s" / "store.json").exists()


def test_a_finished_store_is_not_overwritten_by_accident(tmp_path):
    work.build(tmp_path / "s")
    before = work.contents(tmp_path / "s")
    with pytest.raises(StoreError, match="finished store; pass overwrite=True"):
        CounterpartWriter(tmp_path / "s", **work.arguments())
    assert work.contents(tmp_path / "s") == before


def test_overwriting_keeps_the_old_store_until_the_new_one_is_complete(tmp_path):
    old = work.build(tmp_path / "s")
    first = old.images(range(work.NUM_ROWS))
    with CounterpartWriter(tmp_path / "s", **work.arguments(rows_per_shard=50), overwrite=True) as writer:
        writer.add_row(work.image(99), label=0)
        writer.flush()
        CounterpartStore.open(tmp_path / "s").verify()
    new = CounterpartStore.open(tmp_path / "s")
    new.verify()
    assert new.num_rows == 1
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == names_of(new)
    assert torch.equal(old.image_shards[0], first[:5])  # an opened store keeps its files


def test_one_writer_at_a_time(tmp_path):
    with CounterpartWriter(tmp_path / "s", **work.arguments()) as writer:
        for flags in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(StoreError, match=r"s: another writer is at work"):
                CounterpartWriter(tmp_path / "s", **work.arguments(), **flags)
        work.complete(writer)
    CounterpartStore.open(tmp_path / "s").verify()


def test_a_closed_writer_adds_nothing(tmp_path):
    with CounterpartWriter(tmp_path / "s", **work.arguments()) as writer:
        work.complete(writer)
    writer.close()
    with pytest.raises(StoreError, match="closed"):
        writer.add_row(work.image(0), label=0)


def test_metadata_given_at_the_start_stays(tmp_path):
    with CounterpartWriter(tmp_path / "s", **work.arguments(metadata={"a": (1, 2)})) as writer:
        writer.update_metadata({"a": [1, 2], "b": 1})
        writer.update_metadata({"b": 2})
        with pytest.raises(StoreError, match="'a' was given at the start"):
            writer.update_metadata({"a": 3})
        with pytest.raises(StoreError, match="metadata"):
            writer.update_metadata({"c": {1, 2}})
    assert CounterpartStore.open(tmp_path / "s").metadata == {"a": [1, 2], "b": 2}


def test_a_store_without_rows(tmp_path):
    with CounterpartWriter(tmp_path / "s", **work.arguments()):
        pass
    store = CounterpartStore.open(tmp_path / "s")
    store.verify()
    assert (store.num_rows, store.num_pairs, store.coverage, store.image_shards) == (0, 0, 0.0, [])
    assert store.rows(3).tolist() == []
    assert store.images([]).shape == (0, *work.SHAPE)


def test_the_folder_is_a_file(tmp_path):
    (tmp_path / "s").write_text("x")
    with pytest.raises(StoreError, match="is a file; a store is a folder"):
        CounterpartWriter(tmp_path / "s", **work.arguments())
    with pytest.raises(StoreError, match="cannot be written"):
        CounterpartWriter(tmp_path / "s" / "t", **work.arguments())


FULL_DISK = """
    import resource, signal, sys
    from pathlib import Path
    from diffcore_gpu.errors import StoreError
    from diffcore_gpu.store import CounterpartWriter
    from tests.store import work

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    path = Path(sys.argv[1])
    # no file may grow beyond this: in the middle of a shard's images, where they are written out
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096 + 200, resource.RLIM_INFINITY))
    try:
        with CounterpartWriter(path, **work.arguments()) as writer:
            for row in range(3):
                work.add(writer, row)
                try:
                    writer.flush()
                except StoreError as error:
                    print(error)
            print(writer.num_rows)
    except StoreError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    with CounterpartWriter(path, **work.arguments(), resume=True) as writer:
        print(writer.num_rows)
        work.complete(writer)
"""


def test_a_full_disk_is_named_and_the_work_resumable(tmp_path):
    """Real writes that fail: the system refuses to let a file grow, as it does on a full disk."""
    lines = run_python("-c", textwrap.dedent(FULL_DISK), tmp_path / "s").splitlines()
    assert "counterparts-00000.part: cannot be written: File too large" in lines[0], lines
    assert lines[1] == "3"
    assert "writing failed before" in lines[2]
    assert lines[-1] == "2", lines  # rows 0 and 1 had been flushed
    work.build(tmp_path / "t")
    assert work.contents(tmp_path / "s") == work.contents(tmp_path / "t")
