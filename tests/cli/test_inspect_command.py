"""`diffcore inspect`: what it prints and the contact sheet that it writes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffcore_gpu import CounterpartWriter
from tests.cli.conftest import Folders, Run


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """A store with prompts and similarities in two shards."""
    path = tmp_path / "measured"
    with CounterpartWriter(
        path,
        num_samples=3,
        image_shape=(3, 8, 8),
        class_names=["[x]", "ü"],
        labels=[0, 0, 1],
        metadata={"model": {"name": "m", "steps": 4}},
        rows_per_shard=2,
    ) as writer:
        for k, similarity in enumerate((0.5, 0.75, 1.0)):
            row = writer.add_row(np.zeros((3, 8, 8), np.uint8), label=0, prompt=f"a photo {k % 2}", seed=k, attempt=0)
            writer.add_pair(0, row, similarity=similarity)
    return path


def test_for_a_person(run: Run, packed: Folders) -> None:
    outcome = run("inspect", packed.store)
    for text in (
        "version 2, read by map",
        "3 x 32 x 32 uint8",
        "4 in 3 classes; the content of every file is known",
        "75.0% of the samples",
        "diffcore pack",
        "pairs-",
    ):
        assert text in outcome.out
    assert "Similarity" not in outcome.out


def test_measured_store(run: Run, measured: Path) -> None:
    outcome = run("inspect", measured)
    assert "Similarity of 3 measured pairs" in outcome.out
    assert "model.steps  4" in outcome.out
    assert "     2  a photo 0" in outcome.out
    assert "[x]" in outcome.out
    assert re.search(r"counterparts-00001-[0-9a-f]{12}\.safetensors     1", outcome.out)


def test_for_a_program(run: Run, measured: Path) -> None:
    summary = json.loads(run("inspect", measured, "--json").out)
    assert summary["image_shape"] == [3, 8, 8]
    assert summary["classes"] == [
        {"name": "[x]", "samples": 2, "covered": 1, "rows": 3},
        {"name": "ü", "samples": 1, "covered": 0, "rows": 0},
    ]
    assert summary["similarity"]["quantiles"]["median"] == 0.75
    assert sum(bar["pairs"] for bar in summary["similarity"]["histogram"]) == 3
    assert summary["prompts"] == [{"text": "a photo 0", "rows": 2}, {"text": "a photo 1", "rows": 1}]
    assert [file["rows"] for file in summary["files"]] == [2, 1, None, None]
    assert summary["rows_per_sample"] == {"min": 3, "mean": 3.0, "max": 3}


def test_contact_sheet(run: Run, packed: Folders, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    outcome = run("inspect", packed.store, "--real", packed.real, "--out", sheet, "--samples", 2)
    assert f"Contact sheet {sheet}" in outcome.out
    with Image.open(sheet) as image:
        assert image.format == "PNG"
        two_lines = image.height
    run("inspect", packed.store, "--real", packed.real, "--out", sheet, "--samples", 3, "--json")
    with Image.open(sheet) as image:
        assert image.height > two_lines


def test_contact_sheet_of_another_dataset(run: Run, packed: Folders, tmp_path: Path) -> None:
    (packed.real / "a" / "0.png").rename(packed.real / "a" / "2.png")
    outcome = run("inspect", packed.store, "--real", packed.real, "--out", tmp_path / "sheet.png", code=1)
    assert "other file names" in outcome.err
    assert not (tmp_path / "sheet.png").exists()


def test_broken_real_images_are_left_out(run: Run, packed: Folders, tmp_path: Path) -> None:
    (packed.real / "b" / "0.png").write_text("nothing")
    sheet = tmp_path / "sheet.png"
    outcome = run("inspect", packed.store, "--real", packed.real, "--out", sheet)
    assert "b/0.png is not on the contact sheet: broken" in outcome.err
    for name in ("0.png", "1.png"):
        (packed.real / "a" / name).write_text("nothing")
    outcome = run("inspect", packed.store, "--real", packed.real, "--out", sheet, code=1)
    assert outcome.err.splitlines()[-1].startswith("diffcore: No sample of")


def test_nowhere_to_write(run: Run, packed: Folders, tmp_path: Path) -> None:
    outcome = run("inspect", packed.store, "--real", packed.real, "--out", tmp_path / "no" / "sheet.png", code=1)
    assert outcome.err.startswith(f"diffcore: {tmp_path / 'no'} is no folder")
