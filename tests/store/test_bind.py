"""A store is bound to the dataset that it was made for, and to no other."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from diffcore_gpu.data import IndexedDataset
from diffcore_gpu.errors import StoreError
from diffcore_gpu.store import dataset_fingerprint
from tests.store import work


class Folder(Dataset):
    """Has what torchvision's ImageFolder shows; decoding an image would be an error."""

    def __init__(self, root="/data/birds", labels=work.LABELS, names=work.NAMES):
        self.root = root
        self.samples = self.imgs = [(f"{root}/{name}", label) for name, label in zip(names, labels, strict=True)]
        self.targets = list(labels)

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        raise AssertionError("an image was decoded")


class Labelled(Dataset):
    """Labels under an attribute of the caller's choice, and no names."""

    def __init__(self, **attributes):
        self.__dict__.update(attributes)

    def __len__(self):
        return work.NUM_SAMPLES


class Columns:
    """Has what a Hugging Face dataset shows."""

    column_names = ("image", "label")

    def __init__(self):
        self.column_names = ["image", "label"]

    def __len__(self):
        return work.NUM_SAMPLES

    def __getitem__(self, key):
        assert key == "label", "an image was decoded"
        return list(work.LABELS)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return work.build(tmp_path_factory.mktemp("stores") / "store")


@pytest.fixture(scope="module")
def part_store(tmp_path_factory):
    """A store made for samples 3 to 8 alone."""
    changes = {"num_samples": 6, "labels": work.LABELS[3:9], "file_names": work.NAMES[3:9]}
    path = tmp_path_factory.mktemp("stores") / "part"
    from diffcore_gpu.store import CounterpartStore, CounterpartWriter

    with CounterpartWriter(path, **work.arguments(**changes)):
        pass
    return CounterpartStore.open(path)


@pytest.mark.parametrize(
    "dataset",
    [
        Folder(),
        Folder(root="/moved/elsewhere/"),
        IndexedDataset(Folder()),
        Subset(IndexedDataset(Folder()), [3, 1]),
        Subset(Subset(IndexedDataset(Folder()), [3, 1, 5]), [0]),
        Subset(Folder(), range(12)),
        Labelled(targets=work.LABELS),
        Labelled(targets=torch.tensor(work.LABELS, dtype=torch.uint8)),
        Labelled(labels=work.LABELS),
        Labelled(_labels=tuple(work.LABELS)),
        Labelled(y=torch.tensor(work.LABELS)),
        Labelled(samples=[(name, label) for name, label in zip(work.NAMES, work.LABELS, strict=True)]),
        Columns(),
    ],
    ids=lambda dataset: type(dataset).__name__,
)
def test_the_right_dataset(store, dataset):
    assert store.bind(dataset) is store


def test_a_part_made_for_itself(part_store):
    part = Subset(Folder(), [3, 4, 5, 6, 7, 8])
    assert part_store.bind(part) is part_store
    assert part_store.bind(IndexedDataset(part)) is part_store
    with pytest.raises(StoreError, match="other file names"):
        part_store.bind(Subset(Folder(), [6, 4, 5, 3, 7, 8]))
    with pytest.raises(StoreError, match="made for a dataset of 6 samples, and this one has 12"):
        part_store.bind(Subset(IndexedDataset(Folder()), [3, 4, 5, 6, 7, 8]))


def test_another_length(store):
    with pytest.raises(StoreError, match="made for a dataset of 12 samples, and this one has 11"):
        store.bind(Folder(labels=work.LABELS[:11], names=work.NAMES[:11]))
    with pytest.raises(StoreError, match=r"this one has 2; .*IndexedDataset first"):
        store.bind(Subset(Folder(), [0, 1]))


def test_other_labels(store):
    labels = list(work.LABELS)
    labels[7] = 2
    with pytest.raises(StoreError, match="other labels: sample 7 has label 2, not 1"):
        store.bind(Folder(labels=labels))
    with pytest.raises(StoreError, match="other labels: sample 7 "):
        store.bind(IndexedDataset(Labelled(targets=labels)))
    with pytest.raises(StoreError, match="other labels: sample 7 "):
        store.bind(Folder(), labels=labels)


def test_other_names(store):
    names = list(work.NAMES)
    names[4], names[7] = names[7], names[4]
    with pytest.raises(StoreError, match=r"same in another order: sample 4 is 'class 1/007\.jpg' here"):
        store.bind(Folder(names=names))
    with pytest.raises(StoreError, match="sample 4"):
        store.bind(Labelled(targets=work.LABELS), file_names=names)
    with pytest.raises(StoreError, match="2 file names"):
        store.bind(Labelled(targets=work.LABELS), file_names=names[:2])


def test_labels_that_cannot_be_found(store):
    class Opaque(Dataset):
        def __len__(self):
            return work.NUM_SAMPLES

        def __getitem__(self, index):
            raise AssertionError("an image was decoded")

    for dataset in (Opaque(), IndexedDataset(Opaque()), Subset(Opaque(), range(12)), TensorDataset(torch.zeros(12, 3))):
        with pytest.raises(
            StoreError, match=r"labels of this \w+ cannot be found .* pass them: bind\(dataset, labels="
        ):
            store.bind(dataset)
        assert store.bind(dataset, labels=work.LABELS) is store
    with pytest.raises(StoreError, match="11 labels for a dataset of 12"):
        store.bind(Opaque(), labels=work.LABELS[:11])


def test_labels_of_another_kind(store):
    with pytest.raises(StoreError, match="the dataset's targets: "):
        store.bind(Labelled(targets=["red"] * 12))
    with pytest.raises(StoreError, match="the dataset's targets: "):
        store.bind(Labelled(targets=[[0, 1]] * 12))


def test_no_length(store):
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(())

    with pytest.raises(StoreError, match="Stream has no length"):
        store.bind(Stream())


def test_a_store_without_names_is_bound_by_labels(tmp_path):
    store = work.build(tmp_path / "s", file_names=None)
    assert store.bind(Folder(names=work.NAMES[::-1])) is store


def test_the_fingerprint_is_stable():
    """These digests are part of the format: a store made today must bind in years."""
    fingerprint = dataset_fingerprint([0, 1, 2, 1], ["a/0.jpg", "b/1.jpg", "c/2.jpg", "b/ü.jpg"])
    assert fingerprint == dataset_fingerprint(
        torch.tensor([0, 1, 2, 1], dtype=torch.int32), iter(["a/0.jpg", "b/1.jpg", "c/2.jpg", "b/ü.jpg"])
    )
    assert fingerprint.labels == "359ad77c04cfcb7e9de6cca919c4924ff161d0dbdedbc0e20211649dc3b9ad99"
    assert fingerprint.file_names == "933b627e6ec2ef70786b4f0bb0315a3c68a28ffd55b5e8a4b36d872e1bf5e84d"
    assert fingerprint.digest == "e602789c63e0452f00e4a3c01930a0d1870ba215591a0761849d1dbcbf87dc52"


def test_every_part_counts():
    names = ["a", "b", "c"]
    digests = {
        dataset_fingerprint(labels, given).digest
        for labels, given in (
            ([0, 1, 2], names),
            ([0, 1, 1], names),
            ([0, 1, 2], ["a", "c", "b"]),
            ([0, 1, 2], ["ab", "", "c"]),
            ([0, 1, 2], None),
            ([0, 1], None),
        )
    }
    assert len(digests) == 6
    with pytest.raises(StoreError, match="2 file_names for 3 labels"):
        dataset_fingerprint([0, 1, 2], ["a", "b"])
