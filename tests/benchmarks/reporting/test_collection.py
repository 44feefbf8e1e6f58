"""Which files a report is drawn from, and which are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diffcore_gpu.benchmarks.harness.result_file import FORMAT, write_result
from diffcore_gpu.benchmarks.reporting.collection import collect
from diffcore_gpu.errors import BenchmarkError
from tests.benchmarks.reporting.samples import PARTS, sample, write_samples


def test_folders_are_searched_and_sorted_by_suite(tmp_path: Path) -> None:
    write_samples(tmp_path / "results")
    write_result(tmp_path / "results" / "b" / "overhead.json", sample("overhead"))
    (tmp_path / "results" / ".hidden").mkdir()
    (tmp_path / "results" / ".hidden" / "x.json").write_text("{")
    found, foreign = collect([tmp_path / "results"])
    assert foreign == []
    assert [one.shown for one in found[:3]] == ["b/overhead.json", "device/overhead.json", "device/batch_time.json"]
    assert {one.suite for one in found} == set(PARTS)
    again, _ = collect([tmp_path / "results", tmp_path / "results" / "b" / "overhead.json"])
    assert [one.path for one in again] == [one.path for one in found]  # each once


def test_json_of_other_programs_is_left_out_of_folders_and_refused_by_name(tmp_path: Path) -> None:
    write_result(tmp_path / "peers.json", sample("peers"))
    store = tmp_path / "store" / "store.json"
    store.parent.mkdir()
    store.write_text(json.dumps({"format": "counterparts", "rows": 3}))
    (tmp_path / "list.json").write_text("[1]")
    found, foreign = collect([tmp_path])
    assert [one.shown for one in found] == ["peers.json"]
    assert foreign == [tmp_path / "list.json", store]
    with pytest.raises(BenchmarkError, match=r"store.json: is not a result of `diffcore bench`"):
        collect([store])


@pytest.mark.parametrize("in_folder", [True, False])
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "is not JSON, so no result"),
        ('{"environment": {}, "batches": []}', "or one from before results had a format"),
        (json.dumps({**sample("peers"), "format": FORMAT + 1}), "was written by another version of diffcore-gpu"),
        (json.dumps({**sample("peers"), "suite": "peer"}), "'peer', which is no suite; did you mean peers"),
        (json.dumps({"format": FORMAT, "suite": "peers"}), r"what .* peers holds \(KeyError: 'results'\)"),
        (json.dumps({**sample("peers"), "results": 3}), r"results is of another kind"),
        (json.dumps({**sample("peers"), "environment": {}}), r"KeyError: 'cpu'"),
    ],
)  # fmt: skip
def test_a_damaged_result_is_refused_also_in_a_folder(tmp_path: Path, text: str, why: str, in_folder: bool) -> None:
    path = tmp_path / "some.json"
    path.write_text(text)
    with pytest.raises(BenchmarkError, match=f"some.json: .*{why}"):
        collect([tmp_path if in_folder else path])


def test_nothing_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="there is no result of `diffcore bench` here"):
        collect([tmp_path])
    with pytest.raises(BenchmarkError, match="there is no such file"):
        collect([tmp_path / "no.json"])
