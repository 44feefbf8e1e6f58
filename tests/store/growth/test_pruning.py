"""Pairs taken out of a store, and rows with them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffcore_gpu.errors import StoreError
from diffcore_gpu.store import CounterpartStore, CounterpartWriter, prune
from tests.store import work


@pytest.fixture
def store(tmp_path):
    return work.build(tmp_path / "store")


def pairs_in(store):
    return {
        (sample, row): similarity
        for sample in range(store.num_samples)
        for row, similarity in zip(store.rows(sample).tolist(), store.similarities(sample).tolist(), strict=True)
    }


def check(store, expected, report):
    """The store at that place has these pairs, the images that it had, and what the report says."""
    now = CounterpartStore.open(store.path)
    now.verify()
    found = pairs_in(now)
    assert found.keys() == expected.keys()
    assert np.array_equal(list(found.values()), [expected[pair] for pair in found], equal_nan=True)
    assert (report.pairs, report.removed_pairs) == (len(expected), store.num_pairs - len(expected))
    assert report.checksum == now.checksum
    assert report.covered == len({sample for sample, _ in expected})
    return now


def test_by_row(store):
    report = prune(store.path, rows=[3, 20, 3])
    now = check(store, {pair: s for pair, s in pairs_in(store).items() if pair[1] not in (3, 20)}, report)
    assert now.manifest.shards == store.manifest.shards
    assert now.manifest.rows == store.manifest.rows
    assert report.unused_rows == 23 - len({row for _, row in pairs_in(now)})


def test_by_pair(store):
    first, second = list(pairs_in(store))[4:6]
    report = prune(store.path, pairs=[first, second])
    check(store, {pair: s for pair, s in pairs_in(store).items() if pair not in (first, second)}, report)


def test_by_class(store):
    report = prune(store.path, classes=["red", "blue"])
    check(store, {pair: s for pair, s in pairs_in(store).items() if pair[0] % 3 == 1}, report)
    assert report.uncovered == len({sample for sample, _ in pairs_in(store) if sample % 3 != 1})


def test_below_keeps_what_was_not_measured(store):
    report = prune(store.path, below=5 / 11)
    limit = np.float64(5 / 11)
    check(store, {pair: s for pair, s in pairs_in(store).items() if math.isnan(s) or s >= limit}, report)


def test_the_lowest_share(store):
    measured = sorted((s, *pair) for pair, s in pairs_in(store).items() if not math.isnan(s))
    gone = {(sample, row) for _, sample, row in measured[: int(0.3 * len(measured))]}
    report = prune(store.path, lowest=0.3)
    check(store, {pair: s for pair, s in pairs_in(store).items() if pair not in gone}, report)


def test_the_best_of_each_sample(store):
    report = prune(store.path, rows=[0], best=2)
    expected = {}
    for sample in range(store.num_samples):
        rows = [row for row in store.rows(sample).tolist() if row != 0]
        expected |= {(sample, row): pairs_in(store)[sample, row] for row in rows[:2]}
    check(store, expected, report)


def test_compact_takes_rows_out(store):
    report = prune(store.path, best=1, compact=True)
    now = CounterpartStore.open(store.path)
    now.verify()
    used = sorted({int(store.rows(sample)[0]) for sample in range(11)})
    assert (report.rows, report.removed_rows, report.unused_rows) == (len(used), 23 - len(used), 0)
    assert now.num_rows == len(used)
    for row, was in enumerate(used):
        assert np.array_equal(now.image(row).numpy(), work.image(was))
        for name in now.row_columns:
            assert int(now.row_column(name, [row])) == int(store.row_column(name, [was]))
    for sample in range(11):
        assert used[int(now.rows(sample)[0])] == int(store.rows(sample)[0])
    names = {path.name for path in store.path.glob("counterparts-*")}
    assert names == {shard.name for shard in now.manifest.shards}


def test_compact_leaves_whole_shards_alone(tmp_path):
    store = work.build(tmp_path / "store")
    prune(store.path, rows=[7])
    before = {path.name: path.stat().st_ino for path in store.path.glob("counterparts-*")}
    report = prune(store.path, compact=True)
    after = {path.name: path.stat().st_ino for path in store.path.glob("counterparts-*")}
    assert (report.removed_rows, report.rewritten_shards) == (1, 1)
    assert [before.get(name) == inode for name, inode in sorted(after.items())] == [True, False, True, True, True]


def test_a_shard_without_rows_goes(tmp_path):
    store = work.build(tmp_path / "store")
    inodes = [(store.path / shard.name).stat().st_ino for shard in store.manifest.shards]
    report = prune(store.path, rows=range(5, 10), compact=True)
    now = CounterpartStore.open(store.path)
    now.verify()
    assert report.rewritten_shards == 0
    assert [(store.path / shard.name).stat().st_ino for shard in now.manifest.shards] == inodes[:1] + inodes[2:]


def test_everything_may_go(tmp_path):
    store = work.build(tmp_path / "store")
    report = prune(store.path, classes=["red", "green", "blue"], compact=True)
    now = CounterpartStore.open(store.path)
    now.verify()
    assert (report.rows, report.pairs, now.num_rows, now.num_pairs) == (0, 0, 0, 0)


def test_nothing_to_take_out_changes_nothing(store):
    before = work.contents(store.path)
    report = prune(store.path, below=-2.0, best=99)
    assert (report.removed_pairs, report.checksum) == (0, store.checksum)
    assert work.contents(store.path) == before


def test_what_was_done_is_in_the_history(store):
    prune(store.path, lowest=0.1)
    now = CounterpartStore.open(store.path)
    (entry,) = now.manifest.history
    assert (entry["operation"], entry["before"]) == ("prune", store.checksum)
    assert entry["conditions"]["lowest"] == 0.1
    assert now.metadata == store.metadata


def test_a_rerun_takes_out_nothing_more(store):
    first = prune(store.path, lowest=0.25, expect=store.checksum)
    again = prune(store.path, lowest=0.25, expect=store.checksum)
    assert again.checksum == first.checksum
    assert again.removed_pairs == 0
    with pytest.raises(StoreError, match="has the checksum"):
        prune(store.path, lowest=0.25, expect="0" * 64)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "nothing was said about what to prune"),
        ({"rows": [23]}, "row 23 is outside the store's 23 rows"),
        ({"rows": [-1]}, "row -1 is outside"),
        ({"pairs": [(11, 0)]}, "there is no pair of sample 11 and row 0"),
        ({"classes": ["pink"]}, "has no class 'pink'"),
        ({"below": math.nan}, "below must be a finite number"),
        ({"lowest": 1.5}, "lowest is a share"),
        ({"best": 0}, "best must be at least 1"),
    ],
)
def test_what_cannot_be(store, asked, message):
    before = work.contents(store.path)
    with pytest.raises(StoreError, match=message):
        prune(store.path, **asked)
    assert work.contents(store.path) == before


def test_a_store_behind_a_url():
    with pytest.raises(StoreError, match="s3://bucket/store: is a URL; change a store in a folder, and push it there"):
        prune("s3://bucket/store?signature=secret", best=1)


def test_refused_where_work_is_unfinished(tmp_path):
    store = work.build(tmp_path / "store")
    with work.interrupted(store.path, append=True) as writer:
        work.add(writer, 23)
        writer.flush()
    with pytest.raises(StoreError, match="holds unfinished work"):
        prune(store.path, best=1)
    with CounterpartWriter(store.path, **work.arguments(), append=True, resume=True) as writer:
        assert writer.num_rows == 24


def test_a_damaged_row_is_not_written_again(tmp_path):
    store = work.build(tmp_path / "store")
    shard = store.path / store.manifest.shards[1].name
    data = bytearray(shard.read_bytes())
    data[4096 + 3 * 72] ^= 1  # row 8
    shard.write_bytes(data)
    with pytest.raises(StoreError, match="row 8 is not the image that was written"):
        prune(store.path, rows=[7], compact=True)
    assert CounterpartStore.open(store.path).checksum == store.checksum
    assert not (store.path / "unfinished").exists()


@settings(max_examples=25, deadline=None)
@given(kept=st.lists(st.booleans(), min_size=23, max_size=23))
def test_compacted_is_as_if_made_so(tmp_path_factory, kept):
    folder = tmp_path_factory.mktemp("compact")
    store = work.build(folder / "store")
    prune(store.path, rows=np.flatnonzero(~np.array(kept)), compact=True)
    now = CounterpartStore.open(store.path)
    now.verify()
    with CounterpartWriter(folder / "made", **work.arguments()) as writer:
        for row in np.flatnonzero(kept).tolist():
            new = writer.add_row(store.image(row), label=row % 3, seed=int(store.row_seed([row])))
            for sample in range(12):
                if row in store.rows(sample).tolist():
                    writer.add_pair(sample, new, pairs_in(store)[sample, row])
    made = CounterpartStore.open(folder / "made")
    used = torch.unique(made.pair_row)
    assert torch.equal(now.images(range(now.num_rows)), made.images(used))
    assert torch.equal(now.pair_ptr, made.pair_ptr)
    assert torch.equal(used[now.pair_row], made.pair_row)
