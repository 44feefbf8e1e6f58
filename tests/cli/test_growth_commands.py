"""`diffcore merge`, `rebind`, `prune` and `convert`."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest

from diffcore_gpu import CounterpartStore
from tests.cli.conftest import Folders, Run
from tests.images import write_noise
from tests.store import work


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return work.build(tmp_path / "made").path


def test_merge(run: Run, packed: Folders, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_noise(tmp_path / "more", ["c/new.png"], 40, 48, seed=5)
    run("pack", "--real", packed.real, "--generated", tmp_path / "more", "--out", other, "--size", 32)
    outcome = run("merge", tmp_path / "merged", packed.store, other, packed.store)
    assert "Merged 3 stores into" in outcome.out
    assert "2 linked, 0 copied, 0 rewritten" in outcome.out
    report = json.loads(run("merge", tmp_path / "copied", packed.store, other, "--copy", "--json").out)
    assert (report["rows"], report["duplicate_rows"], report["copied_shards"]) == (4, 0, 2)
    assert report["checksum"] == CounterpartStore.open(tmp_path / "copied").checksum
    run("verify", tmp_path / "merged", "--real", packed.real)
    again = run("merge", packed.store, other, tmp_path / "merged", code=1)
    assert again.err == f"diffcore: {packed.store}: holds a finished store; give another folder for the merged one.\n"


def test_rebind(run: Run, packed: Folders) -> None:
    (packed.real / "a" / "1.png").rename(packed.real / "a" / "moved.png")
    shutil.rmtree(packed.real / "c")
    write_noise(packed.real, ["d/0.png"], 40, 48, seed=5)
    outcome = run("rebind", packed.store, "--real", packed.real)
    assert "renamed    1: a/moved.png" in outcome.out
    assert "gained     1: d/0.png" in outcome.out
    assert "New classes: d." in outcome.out
    assert "Lost classes: c." in outcome.out
    run("verify", packed.store, "--real", packed.real)
    write_noise(packed.real, ["b/0.png"], 40, 48, seed=9)
    refused = run("rebind", packed.store, "--real", packed.real, code=1)
    assert "the files of 1 samples hold something else than when the store was made ('b/0.png')" in refused.err
    report = json.loads(run("rebind", packed.store, "--real", packed.real, "--changed", "drop", "--json").out)
    assert (report["changed"], report["removed_pairs"], report["unused_rows"]) == ([[2, 2]], 1, 1)


def test_prune(run: Run, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rows.txt").write_text("3\n\n 20 \n")
    outcome = run("prune", store, "--rows", tmp_path / "rows.txt")
    assert "rows     23; 0 taken out" in outcome.out
    assert "rows serve no sample: --compact takes them out." in outcome.out
    opened = CounterpartStore.open(store)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"0 {int(opened.rows(0)[0])}\n"))
    report = json.loads(run("prune", store, "--pairs", "-", "--json").out)
    assert (report["removed_pairs"], report["pairs"]) == (1, opened.num_pairs - 1)
    report = json.loads(
        run("prune", store, "--class", "red", "--below", 0.2, "--lowest", 0.1, "--best", 1, "--compact", "--json").out
    )
    assert report["rows"] == report["rows"] - report["unused_rows"] == CounterpartStore.open(store).num_rows
    run("verify", store)
    inspected = run("inspect", store).out
    assert "Changed since\n  prune  rows 23 to 23; pairs 64 to" in inspected
    assert [entry["operation"] for entry in json.loads(run("inspect", store, "--json").out)["history"]] == ["prune"] * 3
    other = run("prune", store, "--best", 1, "--expect", "0" * 64, code=1)
    assert "has the checksum" in other.err


@pytest.mark.parametrize(
    ("lines", "cause"),
    [
        ("3\nthree\n", "line 2 is not a row number"),
        ("1 2\n", "line 1 is not a row number"),
        ("-1\n", "line 1 is not a row number"),
        ("9" * 30, "line 1 is not a row number"),
    ],
)
def test_lists_that_are_none(run: Run, store: Path, tmp_path: Path, lines: str, cause: str) -> None:
    (tmp_path / "rows.txt").write_text(lines)
    assert cause in " ".join(run("prune", store, "--rows", tmp_path / "rows.txt", code=2).err.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ("merge", "out", "store"),
        ("prune", "store"),
        ("prune", "store", "--rows", "missing.txt"),
        ("prune", "store", "--rows", "-", "--pairs", "-"),
        ("prune", "store", "--lowest", "2"),
        ("rebind", "store"),
        ("rebind", "store", "--real", "real", "--changed", "perhaps"),
        ("convert", "store"),
    ],
)
def test_bad_usage(run: Run, arguments: tuple[str, ...]) -> None:
    outcome = run(*arguments, code=2)
    assert outcome.out == ""
    assert "Error: " in outcome.err


def test_convert(run: Run, store: Path, tmp_path: Path) -> None:
    outcome = run("convert", store, tmp_path / "webp", "--codec", "webp")
    assert "23 rows, 64 pairs" in outcome.out
    assert "Converting: 23 of 23 rows" in outcome.err
    report = json.loads(run("convert", tmp_path / "webp", tmp_path / "raw", "--json").out)
    assert (report["version"], report["codec"], report["rows"]) == (2, "raw", 23)
    assert CounterpartStore.open(tmp_path / "raw").manifest.shards == CounterpartStore.open(store).manifest.shards
    run("convert", Path(__file__).parents[1] / "store" / "version1", tmp_path / "new")
    unknown = run("convert", store, tmp_path / "bmp", "--codec", "bmp", code=2)
    assert "codec must be raw, jpeg" in unknown.err


@pytest.mark.parametrize("command", ["prune", "rebind"])
def test_no_store(run: Run, packed: Folders, tmp_path: Path, command: str) -> None:
    more = ("--best", 1) if command == "prune" else ("--real", packed.real)
    outcome = run(command, tmp_path / "missing", *more, code=1)
    assert outcome.err.count("\n") == 1
    assert "missing" in outcome.err
    assert not (tmp_path / "missing").exists()
