"""A finished store and its report folder give the page of the run that made them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from diffcore_gpu.errors import GenerationError, StoreError
from diffcore_gpu.generation.report.folder import ReportFolder
from diffcore_gpu.generation.report.page import write_store_page
from diffcore_gpu.packing.imagefolder import ImageFolderScan, scan_image_folder
from diffcore_gpu.store import CounterpartStore, CounterpartWriter
from tests.generation.report.reports import Run, make_run
from tests.htmlreport.page_reader import read_page

Made = tuple[CounterpartStore, ImageFolderScan, ReportFolder, Run]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    real = tmp_path / "real"
    (tmp_path / "drawn").mkdir()
    run = make_run(tmp_path / "drawn", ["crow", "wren"], 4)
    for sample in range(8):
        target = real / ("crow", "wren")[sample // 4] / f"{sample}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "drawn" / f"{sample}.png").rename(target)
    scan = scan_image_folder(real)
    folder = ReportFolder.beside(tmp_path / "out")
    with CounterpartWriter(
        tmp_path / "out",
        num_samples=8,
        image_shape=(3, 32, 32),
        class_names=scan.class_names,
        labels=scan.labels,
        file_names=scan.file_names,
    ) as writer:
        for candidate, _, image in run.items:
            assert isinstance(image, torch.Tensor)
            if candidate.accepted:
                row = writer.add_row(
                    image,
                    label=candidate.label,
                    prompt=candidate.prompt,
                    seed=candidate.seed,
                    attempt=candidate.attempt,
                )
                writer.add_pair(candidate.sample, row, similarity=candidate.similarity)
            else:
                folder.keep_discard(candidate, image)
    folder.write(run.report)
    return CounterpartStore.open(tmp_path / "out"), scan, folder, run


def test_shows_every_candidate(made: Made) -> None:
    store, scan, folder, run = made
    page = read_page(write_store_page(store, scan, folder).read_text(encoding="utf-8"))
    for name, accepted in (("pairs", True), ("discards", False)):
        figures = page.all(id=name)[0].all("li")
        wanted = [candidate for candidate in run.candidates if candidate.accepted is accepted]
        assert len(figures) == len(wanted)
        for candidate in wanted:
            origin = f"sample {candidate.sample} · attempt {candidate.attempt + 1} · seed {candidate.seed}"
            [figure] = [figure for figure in figures if origin in figure.text]
            assert candidate.prompt in figure.text
            assert f"S {candidate.similarity:.3f}" in figure.text


def test_same_bytes_again_and_prompts_filled_in(made: Made) -> None:
    store, scan, folder, _ = made
    first = write_store_page(store, scan, folder).read_bytes()
    assert write_store_page(store, scan, ReportFolder(folder.path)).read_bytes() == first

    def render(prompt_id: int, class_name: str) -> tuple[str, str]:
        return f"{prompt_id} of {class_name}", "ugly"

    text = write_store_page(store, scan, folder, render=render, title="Mine").read_text(encoding="utf-8")
    assert "0 of crow" in text
    assert "ugly" in text
    assert "<title>Mine</title>" in text


def test_a_store_of_another_dataset_is_refused(made: Made) -> None:
    store, scan, folder, _ = made
    (scan.root / "wren" / "7.png").rename(scan.root / "wren" / "8.png")
    with pytest.raises(StoreError):
        write_store_page(store, scan_image_folder(scan.root), folder)
    assert not folder.page.exists()


def test_no_report_and_a_real_image_that_is_gone(made: Made, tmp_path: Path) -> None:
    store, scan, folder, _ = made
    with pytest.raises(GenerationError, match="missing"):
        write_store_page(store, scan, ReportFolder(tmp_path / "elsewhere"))
    scan.path(0).unlink()
    with pytest.raises(GenerationError, match=r"0\.png cannot be shown"):
        write_store_page(store, scan, folder)


def test_thumbnails_on_disk_have_the_shape_of_the_candidate(made: Made) -> None:
    _, _, folder, _ = made
    for _, file in folder.discards():
        with Image.open(file) as image:
            assert image.size == (32, 32)
