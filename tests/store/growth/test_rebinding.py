"""A store follows its dataset, whose samples and classes come, go and are renamed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffcore_gpu.errors import StoreError
from diffcore_gpu.packing.imagefolder import scan_image_folder
from diffcore_gpu.store import CounterpartStore, CounterpartWriter, rebind
from diffcore_gpu.store.growth import contents_of
from diffcore_gpu.store.provenance import FileContents
from tests.store import work


class Data:
    """A dataset of (class name, file name, content) triples, in that order."""

    def __init__(self, items, classes=None, *, contents=True):
        self.classes = sorted({name for name, _, _ in items}) if classes is None else classes
        self.targets = [self.classes.index(name) for name, _, _ in items]
        self.names = [f"{name}/{file}" for name, file, _ in items]
        self.contents = FileContents.unknown(len(items)) if contents else None
        if contents:
            self.contents.set(range(len(items)), [(100, content) for _, _, content in items])

    def __len__(self):
        return len(self.targets)

    def options(self):
        return {"file_names": self.names, "file_contents": self.contents}


ITEMS = [
    (name, f"{number}.jpg", 10 * k + number) for k, name in enumerate(["ant", "bee", "cat"]) for number in range(4)
]


def make(path, data, rows=None):
    """A store for that dataset: for the samples of `rows`, two rows each, of the sample's own numbers."""
    with CounterpartWriter(
        path,
        num_samples=len(data),
        image_shape=work.SHAPE,
        class_names=data.classes,
        labels=data.targets,
        rows_per_shard=5,
        **data.options(),
    ) as writer:
        for number, sample in enumerate(range(len(data)) if rows is None else rows):
            for copy in range(2):
                row = writer.add_row(work.image(2 * number + copy), label=data.targets[sample], seed=number)
                writer.add_pair(sample, row, 0.5 + 0.01 * number + 0.001 * copy)
    return CounterpartStore.open(path)


def bind_to(store, data, **options):
    return rebind(store.path, data, **data.options(), **options)


def images_of(store, sample):
    return [store.image(row).numpy().tobytes() for row in store.rows(sample).tolist()]


@given(order=st.permutations(range(12)), classes=st.permutations(["ant", "bee", "cat"]))
@settings(max_examples=25, deadline=None)
def test_another_order_is_as_if_made_so(tmp_path_factory, order, classes):
    folder = tmp_path_factory.mktemp("rebind")
    store = make(folder / "store", Data(ITEMS))
    report = bind_to(store, Data([ITEMS[sample] for sample in order], classes))
    place = {sample: number for number, sample in enumerate(order)}
    made = make(folder / "made", Data([ITEMS[sample] for sample in order], classes), [place[s] for s in range(12)])
    now = CounterpartStore.open(store.path)
    now.verify()
    assert now.manifest.pairs == made.manifest.pairs  # the same file, byte for byte
    assert now.manifest.rows == made.manifest.rows
    assert (now.class_names, now.fingerprint, now.manifest.shards) == (
        made.class_names,
        made.fingerprint,
        made.manifest.shards,
    )
    assert (report.same, report.removed_pairs, report.gained, report.lost) == (12, 0, [], [])


@given(
    kept=st.lists(st.booleans(), min_size=12, max_size=12).filter(any),
    renamed=st.lists(st.booleans(), min_size=12, max_size=12),
    added=st.integers(0, 3),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=25, deadline=None)
def test_what_is_gained_lost_and_renamed(tmp_path_factory, kept, renamed, added, order):
    store = make(tmp_path_factory.mktemp("rebind") / "store", Data(ITEMS))
    items = [
        (name, "new-" + file if renamed[sample] else file, content)
        for sample, (name, file, content) in enumerate(ITEMS)
        if kept[sample]
    ]
    items += [("bee", f"added-{number}.jpg", 1000 + number) for number in range(added)]
    order.shuffle(items)
    report = bind_to(store, Data(items))
    now = CounterpartStore.open(store.path)
    now.verify()
    of_content = {content: number for number, (_, _, content) in enumerate(items)}
    for sample, (_, _, content) in enumerate(ITEMS):
        if kept[sample]:
            assert images_of(now, of_content[content]) == images_of(store, sample)
    assert report.lost == [sample for sample in range(12) if not kept[sample]]
    assert report.gained == sorted(of_content[1000 + number] for number in range(added))
    assert sorted(old for old, _ in report.renamed) == [s for s in range(12) if kept[s] and renamed[s]]
    assert all(of_content[ITEMS[old][2]] == new for old, new in report.renamed)
    assert report.same == sum(k and not r for k, r in zip(kept, renamed, strict=True))
    assert report.removed_pairs == report.unused_rows == 2 * len(report.lost)
    assert now.num_rows == store.num_rows
    assert now.file_contents.digest.tolist() == [content for _, _, content in items]


def test_files_that_changed_places(tmp_path):
    store = make(tmp_path / "store", Data(ITEMS))
    swapped = [*ITEMS]
    swapped[0], swapped[1] = ("ant", "0.jpg", ITEMS[1][2]), ("ant", "1.jpg", ITEMS[0][2])
    report = bind_to(store, Data(swapped))
    now = CounterpartStore.open(store.path)
    assert images_of(now, 0) == images_of(store, 1)
    assert report.renamed == [[0, 1], [1, 0]]
    assert report.changed == []


def changed_items():
    return [(name, file, 999 if (name, file) == ("bee", "2.jpg") else content) for name, file, content in ITEMS]


@pytest.mark.parametrize("changed", ["drop", "keep"])
def test_changed_files(tmp_path, changed):
    store = make(tmp_path / "store", Data(ITEMS))
    before = work.contents(store.path)
    with pytest.raises(StoreError, match=r"the files of 1 samples hold something else .* \('bee/2.jpg'\)"):
        bind_to(store, Data(changed_items()))
    assert work.contents(store.path) == before
    report = bind_to(store, Data(changed_items()), changed=changed)
    now = CounterpartStore.open(store.path)
    now.verify()
    assert report.changed == [[6, 6]]
    assert images_of(now, 6) == (images_of(store, 6) if changed == "keep" else [])
    assert report.removed_pairs == (0 if changed == "keep" else 2)
    assert now.file_contents.digest[6] == 999


def test_two_of_equal_content_are_not_told_apart(tmp_path):
    items = [
        (name, file, 5 if name == "ant" and file in ("1.jpg", "2.jpg") else content) for name, file, content in ITEMS
    ]
    store = make(tmp_path / "store", Data(items))
    moved = [(name, "new-" + file if name == "ant" else file, content) for name, file, content in items]
    with pytest.raises(StoreError, match=r"first 'ant/new-1.jpg', 'ant/new-2.jpg' and the former 1, 2"):
        bind_to(store, Data(moved))
    report = bind_to(store, Data(moved), ambiguous="drop")
    assert report.ambiguous == [[[1, 2], [1, 2]]]
    assert report.renamed == [[0, 0], [3, 3]]
    assert report.lost == report.gained == [1, 2]


def test_equal_content_under_its_own_key_is_no_question(tmp_path):
    items = [(name, file, 5) for name, file, _ in ITEMS]
    store = make(tmp_path / "store", Data(items))
    report = bind_to(store, Data(items[::-1]))
    assert (report.same, report.ambiguous) == (12, [])


def test_classes_come_go_and_return(tmp_path):
    store = make(tmp_path / "store", Data(ITEMS))
    without = [("aardvark", "0.jpg", 500), *(item for item in ITEMS if item[0] != "bee")]
    report = bind_to(store, Data(without))
    now = CounterpartStore.open(store.path)
    now.verify()
    assert now.class_names == ["aardvark", "ant", "cat", "bee"]
    assert (report.gained_classes, report.lost_classes, report.lost) == (["aardvark"], ["bee"], [4, 5, 6, 7])
    assert now.row_label().tolist() == [1] * 8 + [3] * 8 + [2] * 8
    assert [entry["operation"] for entry in now.manifest.history] == ["rebind"]
    back = bind_to(now, Data(ITEMS))
    again = CounterpartStore.open(store.path)
    again.verify()
    assert again.class_names == store.class_names
    assert again.row_label().tolist() == store.row_label().tolist()
    assert back.lost == [0]
    assert again.num_pairs == 16  # what was lost is not known any more


def test_a_renamed_class(tmp_path):
    store = make(tmp_path / "store", Data(ITEMS))
    renamed = [("wasp" if name == "bee" else name, file, content) for name, file, content in ITEMS]
    report = bind_to(store, Data(renamed))
    now = CounterpartStore.open(store.path)
    now.verify()
    assert report.renamed_classes == {"bee": "wasp"}
    assert (report.gained_classes, report.lost_classes, report.removed_pairs) == ([], [], 0)
    assert now.class_names == ["ant", "cat", "wasp"]


def test_a_sample_of_another_class_loses_its_pairs(tmp_path):
    store = make(tmp_path / "store", Data(ITEMS))
    items = [item for item in ITEMS if item != ("bee", "2.jpg", 12)] + [("cat", "9.jpg", 12)]
    report = bind_to(store, Data(items))
    CounterpartStore.open(store.path).verify()
    assert report.moved == [[6, 11]]
    assert report.removed_pairs == 2
    assert report.renamed_classes == {}


def test_two_classes_that_became_one_are_not_renamed(tmp_path):
    store = make(tmp_path / "store", Data(ITEMS))
    items = [(name if name == "cat" else "insect", f"{name}-{file}", content) for name, file, content in ITEMS]
    report = bind_to(store, Data(items))
    now = CounterpartStore.open(store.path)
    now.verify()
    assert now.class_names == ["cat", "insect", "ant", "bee"]
    assert (report.renamed_classes, report.lost_classes, report.removed_pairs) == ({}, ["ant", "bee"], 16)


def test_where_no_content_is_known_names_decide(tmp_path):
    store = make(tmp_path / "store", Data(ITEMS, contents=False))
    report = bind_to(store, Data(changed_items()[1:], contents=False))
    assert (report.same, report.lost, report.changed) == (11, [0], [])
    known = bind_to(store, Data(changed_items()))
    assert (known.same, known.gained) == (11, [0])
    assert CounterpartStore.open(store.path).file_contents.digest[6] == 999


def test_what_was_known_stays_known(tmp_path):
    store = make(tmp_path / "store", Data(ITEMS))
    bind_to(store, Data([*ITEMS[3:], ("bee", "new.jpg", 0)], contents=False))
    known = CounterpartStore.open(store.path).file_contents
    assert known.digest.tolist() == [content for _, _, content in ITEMS[3:]] + [0]
    assert known.known.tolist() == list(range(9))


def test_the_same_dataset_changes_nothing(tmp_path):
    store = make(tmp_path / "store", Data(ITEMS))
    before = work.contents(store.path)
    assert bind_to(store, Data(ITEMS)).checksum == store.checksum
    assert work.contents(store.path) == before


def test_datasets_that_cannot_be(tmp_path):
    store = make(tmp_path / "store", Data(ITEMS))
    before = work.contents(store.path)
    data = Data(ITEMS)
    with pytest.raises(StoreError, match="none of its 12 samples is found in the dataset"):
        bind_to(store, Data([("dog", "x.jpg", 777)]))
    with pytest.raises(StoreError, match="does not show its class names; pass them"):
        rebind(store.path, [0] * 12, labels=data.targets)
    with pytest.raises(StoreError, match="does not show its labels; pass them"):
        rebind(store.path, [0] * 12, class_names=data.classes)
    with pytest.raises(StoreError, match="do not both know the keys"):
        rebind(store.path, data)
    with pytest.raises(StoreError, match="file_names: 11 of them for 12 samples"):
        rebind(store.path, data, file_names=data.names[1:])
    with pytest.raises(StoreError, match="sample 0 of the dataset that it is to be bound to has the same key"):
        rebind(store.path, data, file_names=[data.names[1], *data.names[1:]])
    with pytest.raises(ValueError, match="changed must be"):
        rebind(store.path, data, changed="maybe")
    with pytest.raises(ValueError, match="ambiguous must be"):
        rebind(store.path, data, ambiguous="maybe")
    assert work.contents(store.path) == before


def test_contents_of_files(tmp_path):
    for name, content in (("a", b""), ("b", b"abc")):
        (tmp_path / name).write_bytes(content)
    seen = []
    contents = contents_of([tmp_path / "a", tmp_path / "b"], lambda done, total: seen.append((done, total)))
    assert contents.size.tolist() == [0, 3]
    assert np.count_nonzero(contents.digest) == 2
    assert seen == [(1, 2), (2, 2)]
    with pytest.raises(StoreError, match="c: cannot be read: No such file"):
        contents_of([tmp_path / "c"])


def test_an_image_folder(tmp_path):
    for name, file, content in ITEMS:
        (tmp_path / "real" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "real" / name / file).write_bytes(bytes([content]))
    scan = scan_image_folder(tmp_path / "real")
    data = Data(ITEMS)
    data.contents = contents_of([scan.path(sample) for sample in range(12)])
    store = make(tmp_path / "store", data)
    (tmp_path / "real" / "ant" / "1.jpg").rename(tmp_path / "real" / "ant" / "9.jpg")
    now = scan_image_folder(tmp_path / "real")
    report = rebind(
        store.path,
        now,
        class_names=now.class_names,
        file_names=now.file_names,
        file_contents=contents_of([now.path(sample) for sample in range(12)]),
    )
    assert report.renamed == [[1, 3]]
