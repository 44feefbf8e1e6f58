"""The scan lists the very samples of torchvision's ImageFolder, in its order."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from diffcore_gpu.errors import PackError
from diffcore_gpu.packing.imagefolder import scan_image_folder


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_same_samples_as_torchvision(tmp_path: Path) -> None:
    datasets = pytest.importorskip("torchvision.datasets", exc_type=ImportError)
    root, elsewhere = tmp_path / "real", tmp_path / "elsewhere"
    touch(
        root,
        *("b/2.jpg", "b/10.PNG", "b/1.JPEG", "b/.hidden.png", "b/notes.txt", "b/x.gif", "b/y.tiff", "b/z.WebP"),
        *("b/sub/1.bmp", "b/sub/deeper/1.pgm", "b/sub-x/1.ppm", "b/sub.y/1.tif", "b/Sub/1.jpg", "b/a.jpg/inside.jpg"),
        *("a/é.jpg", "a/ü [1].jpg", "B/1.jpg", "10/1.jpg", "9/1.jpg", ".dot/1.jpg", "loose.jpg"),
    )
    touch(elsewhere, "linked/1.jpg", "linked/k/2.jpg", "one.jpg")
    (root / "b" / "link").symlink_to(elsewhere / "linked", target_is_directory=True)
    (root / "linkclass").symlink_to(elsewhere / "linked", target_is_directory=True)
    (root / "a" / "link.jpg").symlink_to(elsewhere / "one.jpg")
    (root / "a" / "dangling.jpg").symlink_to(elsewhere / "nothing.jpg")

    dataset = datasets.ImageFolder(root)
    scan = scan_image_folder(root)
    assert scan.class_names == dataset.classes
    assert [(str(scan.path(k)), scan.labels[k]) for k in range(len(scan))] == [(str(p), c) for p, c in dataset.samples]


def test_real_paths_see_through_links(tmp_path: Path) -> None:
    touch(tmp_path / "kept", "1.jpg")
    touch(tmp_path / "real", "a/own.jpg")
    (tmp_path / "real/a/sub").symlink_to(tmp_path / "kept", target_is_directory=True)
    (tmp_path / "real/a/to.jpg").symlink_to(tmp_path / "kept/1.jpg")
    paths = {file.name: file.real_path for file in scan_image_folder(tmp_path / "real").files}
    kept = os.path.realpath(tmp_path / "kept/1.jpg")
    assert paths == {"a/own.jpg": os.path.realpath(tmp_path / "real/a/own.jpg"), "a/sub/1.jpg": kept, "a/to.jpg": kept}


def test_empty_class_is_kept(tmp_path: Path) -> None:
    touch(tmp_path, "b/1.jpg")
    (tmp_path / "a").mkdir()
    scan = scan_image_folder(tmp_path)
    assert (scan.class_names, scan.labels) == (["a", "b"], [1])


def test_refuses_what_is_no_image_folder(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="not a folder"):
        scan_image_folder(tmp_path / "missing")
    with pytest.raises(PackError, match="no class folders"):
        scan_image_folder(tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(PackError, match="no image"):
        scan_image_folder(tmp_path)


def test_refuses_a_loop_of_links(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg")
    (tmp_path / "a" / "again").symlink_to(tmp_path / "a", target_is_directory=True)
    with pytest.raises(PackError, match="again is a link to a folder that contains it"):
        scan_image_folder(tmp_path)


def test_refuses_names_that_no_store_can_hold(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    try:
        (tmp_path / os.fsdecode(b"a/\xff.jpg")).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(PackError, match="not valid UTF-8"):
        scan_image_folder(tmp_path)
