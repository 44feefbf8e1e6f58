"""The folder keeps a bounded choice of discards that a killed run does not change, and the report."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from diffcore_gpu.errors import GenerationError, StoreError
from diffcore_gpu.generation.report.folder import ReportFolder
from diffcore_gpu.generation.report.records import Candidate
from tests.generation.report.reports import make_run


def discard(sample: int, label: int = 0, attempt: int = 0, seed: int = 1) -> Candidate:
    return Candidate(sample, label, attempt, seed, f"a “{sample}”", "text", -0.125, False, 3)


def picture(sample: int, size: int = 20) -> torch.Tensor:
    return torch.full((3, size, size + 4), sample, dtype=torch.uint8)


def content(folder: ReportFolder) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted((folder.path / "discards").iterdir())}


def test_keeps_pixels_and_what_is_known(tmp_path: Path) -> None:
    folder = ReportFolder(tmp_path / "new" / "out.report")
    assert folder.discards() == []
    assert not folder.path.exists()
    assert folder.keep_discard(discard(3, attempt=2), picture(3))
    [(candidate, file)] = ReportFolder(folder.path).discards()
    assert candidate == discard(3, attempt=2)
    with Image.open(file) as image:
        assert image.size == (24, 20)
        assert image.getpixel((0, 0)) == (3, 3, 3)


def test_large_images_become_thumbnails(tmp_path: Path) -> None:
    folder = ReportFolder(tmp_path)
    folder.keep_discard(discard(1), torch.zeros(3, 512, 256, dtype=torch.uint8))
    with Image.open(folder.discards()[0][1]) as image:
        assert image.size == (80, 160)


def test_a_killed_run_ends_with_the_same_files(tmp_path: Path) -> None:
    offers = [(discard(sample, sample % 3), picture(sample)) for sample in range(40)]
    undisturbed = ReportFolder(tmp_path / "a", limit=10)
    for candidate, image in offers:
        undisturbed.keep_discard(candidate, image)
    for part in (offers[:15], offers[9:30], offers[22:]):
        resumed = ReportFolder(tmp_path / "b", limit=10)
        for candidate, image in part:
            resumed.keep_discard(candidate, image)
    assert content(undisturbed) == content(resumed)
    kept = [candidate.label for candidate, _ in resumed.discards()]
    assert sorted(kept.count(label) for label in range(3)) == [3, 3, 4]


def test_killed_between_keeping_one_and_dropping_another(tmp_path: Path) -> None:
    wide = ReportFolder(tmp_path, limit=10)
    for sample in range(6):
        wide.keep_discard(discard(sample), picture(sample))
    assert len(ReportFolder(tmp_path, limit=5).discards()) == 5
    assert len(content(wide)) == 5


def test_same_candidate_twice_and_two_copies_of_one_sample(tmp_path: Path) -> None:
    folder = ReportFolder(tmp_path)
    assert folder.keep_discard(discard(1), picture(1))
    assert folder.keep_discard(discard(1), picture(1))
    assert folder.keep_discard(discard(1, seed=2), picture(1))
    assert len(folder.discards()) == 2


def test_report_is_kept_and_cleared(tmp_path: Path) -> None:
    folder = ReportFolder.beside(tmp_path / "out")
    assert folder.path == tmp_path / "out.report"
    report = make_run(tmp_path, ["a", "b"]).report
    folder.write(report)
    folder.keep_discard(discard(1), picture(1))
    assert ReportFolder(folder.path).read() == report
    folder.clear()
    assert folder.discards() == []
    with pytest.raises(GenerationError, match=r"report\.json: missing"):
        folder.read()


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b"[1]", b'{"version": 2}'])
def test_damaged_report(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "report.json").write_bytes(damage)
    with pytest.raises(GenerationError, match=r"report\.json is damaged"):
        ReportFolder(tmp_path).read()


@pytest.mark.parametrize("cut", [0, 40, 150])
def test_damaged_thumbnail_is_named(tmp_path: Path, cut: int) -> None:
    folder = ReportFolder(tmp_path)
    folder.keep_discard(discard(1), picture(1))
    file = folder.discards()[0][1]
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(GenerationError, match=f"{file.name} is damaged.*delete it"):
        ReportFolder(tmp_path).discards()


def test_foreign_png_is_named(tmp_path: Path) -> None:
    (tmp_path / "discards").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "discards" / "holiday.png")
    with pytest.raises(GenerationError, match=r"holiday\.png"):
        ReportFolder(tmp_path).discards()


def test_accepted_candidates_and_wrong_tensors_are_refused(tmp_path: Path) -> None:
    folder = ReportFolder(tmp_path)
    with pytest.raises(ValueError, match="was accepted"):
        folder.keep_discard(Candidate(1, 0, 0, 1, "", "", 0.9, True), picture(1))
    with pytest.raises(ValueError, match="expected an image uint8"):
        folder.keep_discard(discard(1), picture(1).float())
    assert folder.discards() == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    folder = ReportFolder(tmp_path / "file" / "report")
    with pytest.raises(StoreError, match="cannot be written"):
        folder.keep_discard(discard(1), picture(1))
