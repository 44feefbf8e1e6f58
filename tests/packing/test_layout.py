"""Which generated file belongs to which sample or class, and what is said about those that belong to none."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from diffcore_gpu.errors import PackError
from diffcore_gpu.packing.findings import Kind
from diffcore_gpu.packing.imagefolder import scan_image_folder
from diffcore_gpu.packing.layout import ClassFolders, Matching, match_generated
from diffcore_gpu.packing.options import Layout

MakeTree = Callable[[str, Iterable[str]], Path]


def match(real: Path, generated: Path, layout: Layout = Layout.AUTO) -> tuple[Matching, dict[str, str]]:
    """The matching, and for each usable file the class or the real file that it serves."""
    scan = scan_image_folder(real)
    matching = match_generated(scan, generated, layout)
    serves = {
        m.file.name: scan.class_names[m.label] if m.sample < 0 else scan.files[m.sample].name for m in matching.files
    }
    return matching, serves


def skipped(matching: Matching) -> dict[str, Kind]:
    return {finding.name: finding.kind for finding in matching.findings}


@pytest.mark.parametrize(
    ("folder", "labels"),
    [
        ("024.Red_faced_Cormorant", [1]),
        ("Red faced Cormorant", [1]),
        ("red-FACED_cormorant", [1]),
        ("24 - Red faced Cormorant", [1]),
        ("Cormorant", []),
        ("cat", [3]),
        ("CAT", [2, 3]),
        ("7", [4]),
        ("07", []),
        ("9_0", []),
    ],
)
def test_class_folder_names(folder: str, labels: list[int]) -> None:
    names = ["001.Black_footed_Albatross", "024.Red_faced_Cormorant", "Cat", "cat", "7", "1_0"]
    assert ClassFolders(names).candidates(folder) == labels


def test_class_layout(make_tree: MakeTree) -> None:
    real = make_tree("real", ["001.Cat/a.jpg", "002.Dog/b.jpg", "003.Owl/c.jpg"])
    generated = make_tree("gen", ["001.Cat/Cat_gen_0.png", "cat/x/1.png", "dog/[b].webp", "Bird/1.png", "flat.png"])
    (generated / "003.Owl").mkdir()
    (generated / "Cat" / "prompts.txt").parent.mkdir()
    (generated / "Cat" / "prompts.txt").touch()
    (generated / ".DS_Store").touch()
    matching, serves = match(real, generated)
    assert matching.layout is Layout.CLASS
    assert matching.reason == "0 of 5 files are named after a real image"
    assert serves == {"001.Cat/Cat_gen_0.png": "001.Cat", "cat/x/1.png": "001.Cat", "dog/[b].webp": "002.Dog"}
    assert skipped(matching) == {
        "Bird": Kind.UNKNOWN_CLASS,
        "flat.png": Kind.UNKNOWN_CLASS,
        "003.Owl": Kind.EMPTY_CLASS,
        "Cat": Kind.EMPTY_CLASS,
        "Cat/prompts.txt": Kind.NOT_AN_IMAGE,
    }
    assert matching.notes == ["folder cat is taken for class 001.Cat", "folder dog is taken for class 002.Dog"]


def test_ambiguous_class_folder(make_tree: MakeTree) -> None:
    real = make_tree("real", ["1.cat/a.jpg", "2.cat/b.jpg"])
    matching, serves = match(real, make_tree("gen", ["cat/x.png", "1.cat/y.png"]), Layout.CLASS)
    assert serves == {"1.cat/y.png": "1.cat"}
    assert skipped(matching) == {"cat": Kind.AMBIGUOUS}


def test_real_class_without_images_is_named(make_tree: MakeTree) -> None:
    real = make_tree("real", ["a/1.jpg"])
    (real / "b").mkdir()
    matching, _ = match(real, make_tree("gen", ["a/x.png"]))
    assert skipped(matching) == {"b": Kind.NO_REAL_IMAGES}


@pytest.mark.parametrize("prefix", ["", "cat/", "by-prompt/snowy/"])
def test_stem_layout(make_tree: MakeTree, prefix: str) -> None:
    real = make_tree("real", ["cat/n01.jpg", "cat/n0123.png", "cat/n0123_b.jpg", "cat/v1.2.jpg"])
    names = {
        "n0123_generated_snowy_0.jpg": "cat/n0123.png",
        "n0123.png": "cat/n0123.png",
        "n0123-1.png": "cat/n0123.png",
        "n0123 (2).png": "cat/n0123.png",
        "n0123_b_0.png": "cat/n0123_b.jpg",
        "n0123_bb.png": "cat/n0123.png",
        "n01_x.png": "cat/n01.jpg",
        "v1.2_x.png": "cat/v1.2.jpg",
    }
    generated = make_tree("gen", [prefix + name for name in [*names, "n012_x.png", "v1_x.png"]])
    matching, serves = match(real, generated)
    assert matching.layout is Layout.STEM
    assert matching.reason == "8 of 10 files are named after a real image"
    assert serves == {prefix + name: real_name for name, real_name in names.items()}
    assert skipped(matching) == {prefix + "n012_x.png": Kind.NO_REAL_IMAGE, prefix + "v1_x.png": Kind.NO_REAL_IMAGE}


def test_equal_stems_in_several_classes(make_tree: MakeTree) -> None:
    real = make_tree("real", ["cat/1.jpg", "dog/1.jpg", "dog/2.jpg", "dog/2.png", "dog/x/3.jpg", "dog/y/3.jpg"])
    generated = make_tree(
        "gen", ["Cat/1_a.png", "dog/1_a.png", "1_a.png", "cat/2_a.png", "dog/2_a.png", "dog/y/3_a.png"]
    )
    matching, serves = match(real, generated, Layout.STEM)
    assert serves == {"Cat/1_a.png": "cat/1.jpg", "dog/1_a.png": "dog/1.jpg", "dog/y/3_a.png": "dog/y/3.jpg"}
    assert skipped(matching) == {
        "1_a.png": Kind.AMBIGUOUS,
        "cat/2_a.png": Kind.OTHER_CLASS,
        "dog/2_a.png": Kind.AMBIGUOUS,
    }


def test_real_folder_as_generated_is_the_class_layout(make_tree: MakeTree) -> None:
    real = make_tree("real", ["a/1.jpg", "a/2.jpg"])
    matching, serves = match(real, real)
    assert matching.layout is Layout.CLASS
    assert serves == {"a/1.jpg": "a", "a/2.jpg": "a"}
    matching, serves = match(real, real, Layout.STEM)
    assert serves == {}
    assert set(skipped(matching).values()) == {Kind.NO_REAL_IMAGE}


def test_refuses_a_folder_without_images(make_tree: MakeTree, tmp_path: Path) -> None:
    real = scan_image_folder(make_tree("real", ["a/1.jpg"]))
    with pytest.raises(PackError, match="missing is not a folder"):
        match_generated(real, tmp_path / "missing", Layout.AUTO)
    (tmp_path / "none").mkdir()
    with pytest.raises(PackError, match="none has no image"):
        match_generated(real, tmp_path / "none", Layout.AUTO)
