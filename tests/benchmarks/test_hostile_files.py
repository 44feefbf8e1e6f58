"""Results, recipes, checkpoints, weights and READMEs that anyone may have written: read, or refused in one sentence."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from diffcore_gpu.benchmarks.gallery.batch import load_model
from diffcore_gpu.benchmarks.harness.command import Output
from diffcore_gpu.benchmarks.harness.result_file import complete, read_result
from diffcore_gpu.benchmarks.harness.runs import Run
from diffcore_gpu.benchmarks.ops.kernel_tiles import best
from diffcore_gpu.benchmarks.reporting.collection import Loaded, collect
from diffcore_gpu.benchmarks.reporting.provenance import where
from diffcore_gpu.benchmarks.reporting.readme import update, with_tables
from diffcore_gpu.benchmarks.reporting.suite_tables import tables_of
from diffcore_gpu.benchmarks.steps.overhead_accuracy import make_result
from diffcore_gpu.benchmarks.steps.turns import turns_of
from diffcore_gpu.benchmarks.training.checkpoint import Checkpoint
from diffcore_gpu.benchmarks.training.recipe import built_in, load_recipe
from diffcore_gpu.cli.frame import main
from diffcore_gpu.errors import BenchmarkError, DiffcoreError
from tests import fuzz
from tests.benchmarks.reporting.samples import PARTS, sample

IDENTITY = {"lr": 0.1, "splits": ["test"]}
MODEL = "preact_resnet18"


def encoded(suite: str) -> bytes:
    return json.dumps(sample(suite)).encode()


def written(path: Path, raw: bytes) -> Path:
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize("suite", sorted(PARTS))
def test_results_in_a_report(suite: str, tmp_path: Path) -> None:
    path = tmp_path / "result.json"

    def read(raw: bytes) -> None:
        found, _ = collect([written(path, raw).parent])
        for loaded in found:
            tables_of(loaded)
            with_tables(tmp_path / "README.md", "<!-- results: result -->\n<!-- end of results -->", found)

    outcomes = fuzz.survives(read, encoded(suite), "json", fuzz.seeds(150), (BenchmarkError,))
    assert min(outcomes["read"], outcomes["refused"]) > 10


@pytest.mark.parametrize("suite", ["overhead", "train", "generation", "loader"])
def test_results_in_plots(suite: str) -> None:
    from diffcore_gpu.benchmarks.reporting.suite_plots import pictures_of

    def read(raw: bytes) -> None:
        path = Path("result.json")
        try:
            result = json.loads(raw)
        except (ValueError, RecursionError):
            raise BenchmarkError("no JSON.") from None
        with complete(path, suite):
            pictures_of(Loaded(path, path.name, result))

    fuzz.survives(read, encoded(suite), "json", fuzz.seeds(10), (BenchmarkError,))


def run(path: Path) -> Run:
    return Run("some", Output("diffcore bench some", path), torch.device("cpu"), {"size": 4}, timed=False)


def test_results_of_a_run_that_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "result.json"
    begun = run(path)
    begun.do([{"batch": 1}], lambda part: {"square": 1})
    begun.keep({"batch": 2}, {"turns": 0})
    whole = path.read_bytes()

    def read(raw: bytes) -> None:
        path.write_bytes(raw)
        resumed = run(path)
        resumed.do([{"batch": n} for n in (1, 2, 3)], lambda part: {"square": part["batch"] ** 2}, lambda part: "told")
        with resumed.reading():
            sum(part["square"] for part in resumed.result["results"])

    outcomes = fuzz.survives(read, whole, "json", fuzz.seeds(300), (DiffcoreError,))
    assert min(outcomes["read"], outcomes["refused"]) > 10


def test_turns_that_go_on(tmp_path: Path) -> None:
    times = {"vanilla": {"samples_ms": [2.0, 3.0]}, "mixup": {"samples_ms": [2.5, 3.5]}}
    stages = {name: {f"{stage}_ms": [1.0, 1.0] for stage in ("load", "mix", "train", "waited")} for name in times}
    kept = {"turns": 2, "times": times, "stage_samples": stages, "failed": {"snapmix": "no model"}}
    assert turns_of(kept).count == 2

    def read(raw: bytes) -> None:
        with complete(Path("r.json"), "overhead"):
            turns = turns_of(json.loads(raw))
            assert all(len(rows) == turns.count for rows in turns.rows.values())

    def parsed(raw: bytes) -> None:
        try:
            json.loads(raw)
        except (ValueError, RecursionError):
            raise BenchmarkError("no JSON.") from None
        read(raw)

    fuzz.survives(parsed, json.dumps(kept).encode(), "json", fuzz.seeds(300), (BenchmarkError,))
    for changed in ({"turns": -(10**18)}, {"turns": 1}, {"turns": True}, {"failed": []}):
        with pytest.raises(BenchmarkError, match=r"r\.json: does not hold what a result of overhead holds"):
            read(json.dumps({**kept, **changed}).encode())


def test_results_that_others_are_made_of(tmp_path: Path) -> None:
    steps, train = written(tmp_path / "steps.json", encoded("overhead")), tmp_path / "train.json"

    def trained(raw: bytes) -> None:
        make_result(steps, written(train, raw), 16, None, "val", "command")

    def measured(raw: bytes) -> None:
        make_result(written(tmp_path / "other.json", raw), None, 16, None, None, "command")

    def tiles(raw: bytes) -> None:
        path = written(tmp_path / "tiles.json", raw)
        result = read_result(path, "bandwidth")
        with complete(path, "bandwidth"):
            best(result)

    for read, suite in ((trained, "train"), (measured, "overhead"), (tiles, "bandwidth")):
        fuzz.survives(read, encoded(suite), "json", fuzz.seeds(200), (BenchmarkError,))


@pytest.mark.parametrize("name", ["table2", "table7"])
def test_recipes(name: str, tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    outcomes = fuzz.survives(
        lambda raw: load_recipe(str(written(path, raw))),
        built_in()[name].encode(),
        "toml",
        fuzz.seeds(200),
        (BenchmarkError,),
    )
    assert min(outcomes["read"], outcomes["refused"]) > 10


def saved(content: Any, **how: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **how)
    return buffer.getvalue()


@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoints(zipped: bool, tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, IDENTITY)
    state = {"model": {"w": torch.ones(3)}, "history": [{"epoch": 1}], "seconds": 1.5}
    content = {"format": 1, "identity": json.dumps(IDENTITY), "state": state}

    def read(raw: bytes) -> None:
        checkpoint.path.write_bytes(raw)
        checkpoint.check()
        assert isinstance(checkpoint.load(torch.device("cpu")), dict)

    fuzz.survives(
        read, saved(content, _use_new_zipfile_serialization=zipped), "bytes", fuzz.seeds(300), (BenchmarkError,)
    )


@pytest.mark.parametrize(
    "content",
    [
        {"format": 1},
        {"format": True, "identity": "{}", "state": {}},
        {"format": 1, "identity": {}, "state": {}},
        {"format": 1, "identity": "[]", "state": {}},
        {"format": 1, "identity": "[" * 10_000, "state": {}},
        {"format": 1, "identity": "{", "state": {}},
        {"format": 1, "identity": "{}", "state": []},
        [],
        {"format": [1]},
    ],
)
def test_checkpoints_of_another_kind(content: Any, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(saved(content))
    with pytest.raises(BenchmarkError, match=r"checkpoint\.pt: is (damaged|not a checkpoint)"):
        Checkpoint(tmp_path, {}).check()


def weights(kind: str) -> bytes:
    state = load_model(MODEL, 2, weights=None, pretrained=False, seed=0)[0].state_dict()
    small = {name: value for name, value in state.items() if value.numel() < 100}
    return save(small) if kind == "safetensors" else saved({"model": small})


@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_weights(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"w.{kind}"
    model = torch.nn.Linear(2, 2)
    monkeypatch.setattr("diffcore_gpu.benchmarks.gallery.batch.make_model", lambda *_, **__: model)

    def read(raw: bytes) -> None:
        load_model("any", 2, weights=written(path, raw), pretrained=False, seed=0)

    raw = save(model.state_dict()) if kind == "safetensors" else saved({"model": model.state_dict()})
    read(raw)
    fuzz.survives(read, raw, "safetensors" if kind == "safetensors" else "bytes", fuzz.seeds(300), (BenchmarkError,))
    for other in ([1], {1: torch.ones(2)}, {"model": {2: 3}}, {"weight": "x", "bias": None}, torch.ones(3)):
        if kind == "pt":
            with pytest.raises(BenchmarkError, match=r"w\.pt"):
                read(saved(other))


def test_compressed_weights_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    import zipfile

    path = tmp_path / "w.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as content:
        content.writestr("w/data.pkl", b"\x80\x02}." + bytes(1 << 28))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(BenchmarkError, match=r"w\.pt: cannot be read as a state dict"):
        load_model(MODEL, 2, weights=path, pretrained=False, seed=0)


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def endless(path: Path) -> Path:
    path.symlink_to("/dev/zero")
    return path


@pytest.mark.parametrize("make", [pipe, folder, endless])
@pytest.mark.parametrize(
    "read",
    [
        lambda path: read_result(path.with_name(path.name)),
        lambda path: collect([path.parent]),
        lambda path: load_recipe(str(path)),
        lambda path: update(path, [], check=False),
        lambda path: load_model(MODEL, 2, weights=path, pretrained=False, seed=0),
    ],
)
def test_what_is_no_file_is_not_waited_for(
    read: Callable[[Path], object], make: Callable[[Path], Path], tmp_path: Path
) -> None:
    for name in ("a.json", "b.toml", "c.safetensors", "d.pt"):
        with pytest.raises(BenchmarkError):
            read(make(tmp_path / name))


def test_a_checkpoint_that_is_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "checkpoint.pt")
    with pytest.raises(BenchmarkError, match="is damaged or no checkpoint"):
        Checkpoint(tmp_path, {}).check()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * 100_000, "is nested too deeply"),
        ('{"format": ' + "9" * 10_000 + "}", "a number has 10000 digits"),
        ('{"format": 1, "suite": ["peers"]}', "is not a result of"),
        ('{"format": true, "suite": "peers"}', "is not a result of"),
        ('{"format": 1, "suite": "peers", "results": [[]], "environment": {}, "setting": {}}', "a part of results is"),
        ('{"format": 1, "format": 1}', "a key occurs twice"),
        ("\ufeff{}", "byte order mark"),
    ],
)
def test_the_command_says_it_in_one_sentence(
    text: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "result.json"
    path.write_text(text)
    assert main(["bench", "report", str(path), "--out", str(tmp_path / "r.html")]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert why in said
    assert where(sample("peers")["environment"])  # of the sample; the page would show it
