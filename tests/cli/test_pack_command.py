"""`diffcore pack` as it is typed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from diffcore_gpu import CounterpartStore
from tests.cli.conftest import Folders, Run
from tests.generation.clip_models import save_model
from tests.images import write_noise


def arguments(folders: Folders, *more: object) -> tuple[object, ...]:
    required = ("--real", folders.real, "--generated", folders.generated, "--out", folders.store, "--size", "32")
    return ("pack", *required, *more)


def test_report_for_a_person(run: Run, folders: Folders) -> None:
    outcome = run(*arguments(folders))
    assert "coverage   75.0%: 3 of 4 samples have a counterpart" in outcome.out
    assert "per class  0 to 2 rows; 2 of 3 classes have any" in outcome.out
    assert "  b/[bold]red[i] λ.png: grey (copied to three channels)\n" in outcome.out
    assert "  c: class-without-counterparts\n" in outcome.out
    assert "Layout class: 0 of 3 files are named after a real image." in outcome.err
    assert "Packing: 3 of 3 images" in outcome.err


def test_report_for_a_program(run: Run, folders: Folders) -> None:
    outcome = run(*arguments(folders, "--json"))
    report = json.loads(outcome.out)
    assert (report["samples"], report["rows"], report["pairs"], report["coverage"]) == (4, 3, 5, 0.75)
    assert report["rows_per_class"] == {"a": 2, "b": 1, "c": 0}
    assert report["converted"] == {"grey": 1}
    assert {finding["name"] for finding in report["findings"]} == {"b/[bold]red[i] λ.png", "c"}


def test_height_and_width(run: Run, folders: Folders) -> None:
    run(*arguments(folders, "--size", "24x16", "--resize", "stretch"))
    assert CounterpartStore.open(folders.store).image_shape == (3, 24, 16)


@pytest.mark.parametrize("size", ["0", "x", "32x", "-3", "32x32x3", "99999", "1.5", ""])
def test_bad_size(run: Run, folders: Folders, size: str) -> None:
    outcome = run(*arguments(folders, "--size", size), code=2)
    assert "--size" in outcome.err
    assert not folders.store.exists()


@pytest.mark.parametrize("option", [("--layout", "flat"), ("--max-per-sample", "0"), ("--workers", "0")])
def test_bad_option(run: Run, folders: Folders, option: tuple[str, str]) -> None:
    assert option[0] in run(*arguments(folders, *option), code=2).err


@pytest.mark.parametrize("codec", ["jpeg", "jpeg:80", "webp"])
def test_codec(run: Run, folders: Folders, codec: str) -> None:
    run(*arguments(folders, "--codec", codec))
    assert CounterpartStore.open(folders.store).metadata["codec"] == codec
    shown = run("inspect", folders.store).out
    assert {"jpeg": "jpeg   simplejpeg (libjpeg-turbo)", "webp": "webp   Pillow (libwebp)"}[codec[:4]] in shown
    file = json.loads(run("inspect", folders.store, "--json").out)["files"][0]
    assert (file["codec"], "libjpeg-turbo" in file["decoder"]) == (codec[:4], codec != "webp")


@pytest.mark.parametrize("codec", ["png", "jpeg:0", "jpeg:101", ""])
def test_bad_codec(run: Run, folders: Folders, codec: str) -> None:
    outcome = run(*arguments(folders, "--codec", codec), code=2)
    assert "--codec" in outcome.err
    assert "codec must be raw, jpeg, jpeg:QUALITY with a quality of 1 to 100, or webp" in outcome.err
    assert not folders.store.exists()


def test_strict(run: Run, folders: Folders) -> None:
    (folders.generated / "notes.txt").touch()
    outcome = run(*arguments(folders, "--strict"), code=1)
    assert outcome.out == ""
    assert "diffcore: --strict: 2 findings; nothing was written.\n" in outcome.err
    assert "  skipped: notes.txt: not-an-image\n" in outcome.err
    assert "  converted: b/[bold]red[i] λ.png: grey (copied to three channels)\n" in outcome.err
    assert not folders.store.exists()


def test_existing_store(run: Run, packed: Folders) -> None:
    outcome = run(*arguments(packed), code=1)
    assert outcome.err == (
        f"diffcore: {packed.store} holds a finished store; give --overwrite to replace it, or --append to add to it.\n"
    )
    run(*arguments(packed, "--overwrite"))
    run(*arguments(packed, "--resume"))


def test_append(run: Run, packed: Folders) -> None:
    write_noise(packed.generated, ["a/new.png"], 40, 48, seed=5)
    outcome = run(*arguments(packed, "--append"))
    assert "3 of 4 images are in" in outcome.err
    report = json.loads(run(*arguments(packed, "--append", "--json")).out)
    assert (report["rows"], report["resumed_rows"], report["pairs"]) == (4, 4, 7)


@pytest.mark.parametrize("folder", ["--real", "--generated"])
def test_missing_folder(run: Run, folders: Folders, tmp_path: Path, folder: str) -> None:
    outcome = run(*arguments(folders, folder, tmp_path / "missing"), code=1)
    assert outcome.err.splitlines()[-1].startswith(f"diffcore: {tmp_path / 'missing'} is not a folder; {folder} takes")


_INTERRUPTED = """
import os, signal, sys
import diffcore_gpu.packing.rows as rows
from diffcore_gpu.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # a script's background jobs inherit that it is ignored
read_image = rows.read_image
def slow(path):
    if path.name == "y.png":
        os.kill(os.getpid(), signal.SIGINT)
    return read_image(path)
rows.read_image = slow
sys.exit(main())
"""


def test_ctrl_c_and_resume(run: Run, folders: Folders) -> None:
    words = [str(argument) for argument in arguments(folders, "--workers", 1)]
    result = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED, *words], check=False, capture_output=True, text=True, env=os.environ
    )
    assert result.returncode == 128 + signal.SIGINT
    assert result.stderr.splitlines()[-1] == "Interrupted. Run the same command with --resume to go on."
    assert "Traceback" not in result.stderr
    outcome = run(*arguments(folders), code=1)
    assert "give --resume to go on with it or --overwrite" in outcome.err
    run(*arguments(folders, "--resume"))
    CounterpartStore.open(folders.store).verify()


def test_filter(run: Run, folders: Folders, tmp_path: Path) -> None:
    pytest.importorskip("open_clip", reason="the filter needs open_clip_torch")
    model = save_model(tmp_path / "tiny-clip")
    clip = ("--filter", "clip", "--filter-model", model, "--threshold")
    outcome = run(*arguments(folders, *clip, "-1", "--json"))
    assert json.loads(outcome.out)["discarded_files"] == 0
    store = CounterpartStore.open(folders.store)
    assert bool((store.pair_similarity > -1).all())
    assert store.metadata["filter"]["model"].startswith("open_clip tiny-clip ")
    outcome = run(*arguments(folders, *clip, "1", "--overwrite"), code=1)
    assert "is similar enough to a sample" in outcome.err


def test_options_of_the_filter_need_it(run: Run, folders: Folders) -> None:
    outcome = run(*arguments(folders, "--threshold", "0.5"), code=2)
    assert "--threshold go with --filter clip" in " ".join(outcome.err.split())
    outcome = run(*arguments(folders, "--filter", "clip", "--filter-model", "ViT-B-23"), code=1)
    assert "no model 'ViT-B-23'" in outcome.err
