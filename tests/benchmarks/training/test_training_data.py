"""Folders are checked, and the chosen images per class depend on nothing but seed and names."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffcore_gpu.benchmarks.training.data import choose_per_class, open_data
from diffcore_gpu.errors import BenchmarkError
from tests.benchmarks.training.folders import CLASSES, PER_CLASS, write_images


def test_all_is_trained_on_unless_told_otherwise(dataset: Path) -> None:
    data = open_data(dataset, ["val", "test"], None)
    assert data.class_names == list(CLASSES)
    assert data.part.tolist() == list(range(3 * PER_CLASS))
    assert data.names()[PER_CLASS] == "birch/0.png"
    assert {name: len(split) for name, split in data.splits.items()} == {"val": 6, "test": 6}
    image, label, index = data.train[PER_CLASS]
    assert (image.size, label, index) == ((40, 36), 1, PER_CLASS)


def test_so_many_of_each_class(dataset: Path) -> None:
    data = open_data(dataset, ["test"], 4)
    assert np.bincount(data.labels[data.part]).tolist() == [4, 4, 4]
    assert open_data(dataset, ["test"], 4).part.tolist() == data.part.tolist()
    assert len(data.train) == 3 * PER_CLASS  # indices stay those of the whole, which a store was made for
    with pytest.raises(BenchmarkError, match=r"ash has 6 images, fewer than the 7 of each class.*--images-per-class"):
        open_data(dataset, ["test"], 7)


@given(st.lists(st.integers(0, 3), min_size=4, max_size=40), st.integers(1, 6), st.randoms(use_true_random=False))
def test_the_choice_per_class(labels: list[int], count: int, random: object) -> None:
    names = [f"{label}/{number}.png" for number, label in enumerate(labels)]
    chosen = choose_per_class(names, labels, count, 0)
    expected = [min(count, labels.count(label)) for label in range(4)]
    assert np.bincount(np.array(labels)[chosen], minlength=4).tolist() == expected
    assert (np.diff(chosen) > 0).all()
    assert set(chosen) <= set(choose_per_class(names, labels, count + 1, 0))
    order = list(range(len(labels)))
    random.shuffle(order)  # type: ignore[attr-defined]
    again = choose_per_class([names[place] for place in order], [labels[place] for place in order], count, 0)
    assert {names[order[place]] for place in again} == {names[place] for place in chosen}


def test_another_seed_chooses_others() -> None:
    names, labels = [f"{number}.png" for number in range(100)], [0] * 100
    assert choose_per_class(names, labels, 10, 0).tolist() != choose_per_class(names, labels, 10, 1).tolist()


def test_the_identity_tells_data_apart(dataset: Path, tmp_path: Path) -> None:
    identity = open_data(dataset, ["test"], None).identity()
    assert identity["train"] == 3 * PER_CLASS
    assert identity["test"] == 6
    shutil.copytree(dataset, tmp_path / "copy")
    assert open_data(tmp_path / "copy", ["test"], None).identity() == identity
    assert open_data(dataset, ["val"], None).identity() != identity
    assert open_data(dataset, ["test"], 4).identity()["digest"] != identity["digest"]
    (tmp_path / "copy/train/ash/0.png").rename(tmp_path / "copy/train/ash/00.png")
    assert open_data(tmp_path / "copy", ["test"], None).identity() != identity


def test_what_is_wrong_with_the_folders_is_said(tmp_path: Path) -> None:
    def refused(splits: list[str]) -> str:
        with pytest.raises(BenchmarkError) as error:
            open_data(tmp_path / "d", splits, None)
        return str(error.value).replace(str(tmp_path / "d"), "d")

    assert refused(["test"]) == "d: there is no such folder; --real takes one with train/ and test/."
    (tmp_path / "d/val").mkdir(parents=True)
    assert refused(["test"]) == "d has no folder train/, which this recipe trains on; it has val."
    write_images(tmp_path / "d", {"train": 1})
    assert refused(["test"]) == (
        "d has no folder test/, which this recipe evaluates on; it has train, val; --splits takes other ones."
    )
    assert refused(["val"]) == "d/val has no class folders; it must have one folder of images for each class."
    (tmp_path / "d/val/ash").mkdir()
    assert refused(["val"]) == (
        "d: the classes of train/ and val/ must be the same, but 'birch' is only in train/, not in val/."
    )
    write_images(tmp_path / "d", {"val": 1}, classes=(*CLASSES, "fir"))
    assert refused(["val"]) == (
        "d: the classes of train/ and val/ must be the same, but 'fir' is only in val/, not in train/."
    )
    (tmp_path / "d/train/fir").mkdir()
    assert refused(["val"]) == "d/train/fir has no images; remove the class or fill it."
    for name in (*CLASSES, "fir"):
        (tmp_path / "d/test" / name).mkdir(parents=True)
    assert refused(["test"]) == "d/test has no images."
