"""`bind` looks at what the dataset's files hold, where the store knows it and the dataset shows them."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
from torch.utils.data import Dataset, Subset

from diffcore_gpu.data import IndexedDataset
from diffcore_gpu.errors import StoreError
from diffcore_gpu.store import CounterpartStore
from diffcore_gpu.store.binding import dataset_file_names
from diffcore_gpu.store.provenance import SAMPLED_FILES, FileContents, file_content
from tests.store import work
from tests.store.test_bind import Folder, Labelled


@pytest.fixture
def root(tmp_path):
    for sample, name in enumerate(work.NAMES):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([sample]) * 100)
    return tmp_path / "data"


def contents_of(root: Path, *, without: tuple[int, ...] = ()) -> FileContents:
    contents = FileContents.unknown(work.NUM_SAMPLES)
    for sample, name in enumerate(work.NAMES):
        if sample not in without:
            contents.set([sample], [file_content(root / name)])
    return contents


@pytest.fixture
def store(tmp_path, root):
    return work.build(tmp_path / "store", file_contents=contents_of(root, without=(5,)))


def change(root: Path, sample: int) -> None:
    """Another byte in the same place, at the same size."""
    path = root / work.NAMES[sample]
    data = bytearray(path.read_bytes())
    data[50] ^= 1
    path.write_bytes(data)


class NoRoot(Dataset):
    """Shows paths and no root, and labels that are those of the work."""

    def __init__(self, root):
        self.imgs = [(str(root / name), label) for name, label in zip(work.NAMES, work.LABELS, strict=True)]

    def __len__(self):
        return len(self.imgs)


@pytest.mark.parametrize("content", ["sample", "full"])
@pytest.mark.parametrize(
    "wrap",
    [
        Folder,
        NoRoot,
        lambda root: IndexedDataset(Folder(root)),
        lambda root: Subset(Folder(root), range(12)),
        lambda root: Subset(IndexedDataset(Folder(root)), [3, 1]),
    ],
)
def test_other_bytes_under_the_same_name(store, root, wrap, content):
    seen = []
    assert not store.is_bound
    store.bind(wrap(root), content=content, progress=lambda *counts: seen.append(counts))
    assert store.is_bound
    assert seen == [(done, 11) for done in range(1, 12)]
    change(root, 7)
    for name in (5, 9):
        change(root, name)
    with pytest.raises(StoreError, match=r"class 1/007\.jpg: is not the file that .*store was made for.*rebind"):
        store.bind(wrap(root), content=content)
    store.bind(wrap(root), content=None)


def test_names_and_a_root(store, root):
    dataset = Labelled(targets=work.LABELS)
    store.bind(dataset, file_names=work.NAMES, root=root, content="full")
    store.bind(dataset, file_names=work.NAMES, root=str(root))
    change(root, 0)
    for content in ("sample", "full"):
        with pytest.raises(StoreError, match=r"class 0/000\.jpg: is not the file"):
            store.bind(dataset, file_names=work.NAMES, root=root, content=content)
    store.bind(dataset, file_names=work.NAMES)


def test_the_folder_may_be_another(store, root):
    moved = root.rename(root.with_name("moved"))
    store.bind(Folder(moved), content="full")
    with pytest.raises(StoreError, match=r"class 0/000\.jpg: cannot be read, to compare it: No such file"):
        store.bind(Folder(root), content="full")
    store.bind(Folder(root), root=moved, content="full")
    store.bind(Folder(root))  # no path leads to a file: an archive, say
    (root / "class 0").mkdir(parents=True)
    (moved / work.NAMES[3]).rename(root / work.NAMES[3])
    with pytest.raises(StoreError, match="cannot be read"):
        store.bind(Folder(root))


def test_a_folder_in_place_of_a_file(store, root):
    (root / work.NAMES[2]).unlink()
    (root / work.NAMES[2]).mkdir()
    with pytest.raises(StoreError, match=r"class 2/002\.jpg: cannot be read, to compare it: Is a directory"):
        store.bind(Folder(root))


def test_what_cannot_be_compared_in_full(store, root, tmp_path):
    with pytest.raises(StoreError, match=r"does not show the paths of its files.*file_names= and root="):
        store.bind(Labelled(targets=work.LABELS), content="full")
    store.bind(Labelled(targets=work.LABELS))
    ignorant = work.build(tmp_path / "other")
    with pytest.raises(StoreError, match="does not know what the files of its dataset held"):
        ignorant.bind(Folder(root), content="full")
    ignorant.bind(Folder(root))
    with pytest.raises(ValueError, match="content must be 'sample', 'full' or None, got 'all'"):
        ignorant.bind(Folder(root), content="all")


def test_a_sample_is_spread_evenly(tmp_path):
    count = 3 * SAMPLED_FILES
    names = [f"{sample}.bin" for sample in range(count)]
    (tmp_path / "data").mkdir()
    contents = FileContents.unknown(count)
    for sample, name in enumerate(names):
        (tmp_path / "data" / name).write_bytes(b"%d" % sample)
        contents.set([sample], [file_content(tmp_path / "data" / name)])
    changes = {"num_samples": count, "labels": [0] * count, "file_names": names, "file_contents": contents}
    from diffcore_gpu.store import CounterpartWriter

    with CounterpartWriter(tmp_path / "store", **work.arguments(**changes)):
        pass
    store = CounterpartStore.open(tmp_path / "store")
    dataset, seen = Folder(tmp_path / "data", [0] * count, names), []
    store.bind(dataset, progress=lambda *counts: seen.append(counts))
    assert seen[-1] == (SAMPLED_FILES, SAMPLED_FILES)
    (tmp_path / "data" / names[-1]).write_bytes(b"x")
    with pytest.raises(StoreError, match=rf"{count - 1}\.bin: is not the file"):
        store.bind(dataset)
    (tmp_path / "data" / names[-1]).write_bytes(b"%d" % (count - 1))
    (tmp_path / "data" / names[1]).write_bytes(b"x")
    store.bind(dataset)
    with pytest.raises(StoreError, match=r"1\.bin: is not the file"):
        store.bind(dataset, content="full")


def test_being_bound_is_kept(store, root):
    assert not pickle.loads(pickle.dumps(store)).is_bound
    assert not store.restricted_to([1]).is_bound
    with pytest.raises(StoreError):
        store.bind(Folder(root, labels=[0] * 12))
    assert not store.is_bound
    store.bind(Folder(root))
    assert pickle.loads(pickle.dumps(store)).is_bound
    assert pickle.loads(pickle.dumps(store.restricted_to([1]))).is_bound


@pytest.mark.parametrize("root", ["/data", "/data/", "/", "data", "./data/", "../data", "/a/../data"])
def test_names_are_what_the_system_says(root):
    paths = ["a.jpg", "b/c.jpg", "b//d.jpg", "./e.jpg", "../f.jpg", "b/../g.jpg", "ä.jpg", "..h.jpg"]
    dataset = Folder(root=root.rstrip("/") or "/", labels=[0] * len(paths), names=paths)
    dataset.samples = [(f"{root}/{path}", 0) for path in paths]
    assert dataset_file_names(dataset) == [os.path.relpath(path, dataset.root) for path, _ in dataset.samples]
