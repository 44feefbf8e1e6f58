"""Result files: written whole, read back, and refused in one sentence where they are something else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diffcore_gpu.benchmarks.harness.result_file import FORMAT, new_result, read_result, write_result
from diffcore_gpu.errors import BenchmarkError


def test_a_result_reads_back_with_its_samples_on_one_line(tmp_path: Path) -> None:
    result = new_result("peers", {"gpu": None}, {"size": 3})
    result["results"] += [{"samples_ms": [1.5, 2.0], "name": "λ", "none": {}, "no": []}]
    path = tmp_path / "new" / "result.json"
    write_result(path, result)
    assert read_result(path, "peers") == result
    assert "[1.5, 2.0]" in path.read_text()
    assert [found.name for found in path.parent.iterdir()] == ["result.json"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "is not JSON"),
        ("[1]", "is not a result of `diffcore bench`"),
        ('{"environment": {}, "batches": []}', "is not a result of `diffcore bench`, or one from before results had a"),
        (
            json.dumps({"format": FORMAT + 1, "suite": "peers"}),
            r"was written by another version of diffcore-gpu \(form",
        ),
        (json.dumps({"format": FORMAT, "suite": "peers"}), "holds results of peers, not of overhead"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "some.json"
    path.write_text(text)
    with pytest.raises(BenchmarkError, match=f"some.json: {why}"):
        read_result(path, "overhead")


def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="there is no such file"):
        read_result(tmp_path / "nothing.json")
    with pytest.raises(BenchmarkError, match="cannot be read"):
        read_result(tmp_path)
