"""What `on_gpu.sh` promises whatever its stages do.

A stub takes the place of Python: each stage succeeds at once, unless the test tells it to fail or to hang. What the
stages really do is run by `make rehearsal`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT, BUNDLE = ROOT / "benchmarks" / "on_gpu.sh", ROOT / "benchmarks" / "on_gpu_bundle.sh"
STAGES = ["set_up", "smoke", "variants", "host_overhead", "overhead", "geometry", "tests_gpu", "tests_kernels",
          "residency", "peers", "ncu", "sanitizer"]  # fmt: skip

pytestmark = pytest.mark.skipif(
    any(shutil.which(program) is None for program in ("bash", "timeout", "iconv", "tar")), reason="needs GNU's tools"
)


def stub(folder: Path, cases: str) -> Path:
    """An interpreter that does what `cases` (of bash) say about its arguments, and notes what the archive holds."""
    path = folder / "python"
    note = 'tar tzf "$OUT/results.tgz" 2>/dev/null | tr "\\n" " " >>"$OUT/../seen"; echo >>"$OUT/../seen"'
    write = 'for last; do :; done; [[ $last == *.json ]] && echo "{}" >"$last"'
    begin = f'[[ $* == *"diffcore_gpu bench"* ]] && {{ {note}; }}'
    path.write_text(f'#!/bin/bash\n{begin}\ncase "$*" in\n{cases}\nesac\n{write}\nexit 0\n')
    path.chmod(0o755)
    return path


def run(folder: Path, cases: str = "", *arguments: str, percent: int = 4) -> subprocess.CompletedProcess[str]:
    """The script with such an interpreter; 1 s for a stage of 25 s."""
    return subprocess.run(
        ["bash", SCRIPT, *(arguments or (str(folder / "out"),))],
        env={**environment(folder), "PYTHON": str(stub(folder, cases)), "LIMIT_PERCENT": str(percent)},
        capture_output=True, text=True, timeout=60, check=False, cwd=folder,
    )  # fmt: skip


def environment(folder: Path) -> dict[str, str]:
    """For the script; nothing of it is left in the folder of temporary files."""
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    return {**os.environ, "DEVICE": "cpu", "OUT": str(folder / "out"), "TMPDIR": str(temporary), "PYTHONPATH": ""}


def statuses(summary: str) -> dict[str, str]:
    """Stage → status, from the list that ends a summary."""
    lines = summary.partition("\nstage ")[2].splitlines()[1:]
    return {line.split()[0]: line.split()[1] for line in lines}


def archived(folder: Path) -> set[str]:
    with tarfile.open(folder / "out" / "results.tgz") as archive:
        return {name.removeprefix("./") for name in archive.getnames()}


@pytest.mark.parametrize("arguments", [[], ["--more"], ["one", "two"], ["--less", "folder"], ["-h"]])
def test_the_usage(arguments: list[str]) -> None:
    done = subprocess.run(["bash", SCRIPT, *arguments], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert done.stderr == "usage: [DEVICE=cpu] [PYTHON=…] on_gpu.sh [--more] FOLDER, which the results go to\n"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("DEVICE", "tpu", "DEVICE is cuda or cpu, not tpu."),
        ("PYTHON", "no-such-python", "no-such-python: there is no such interpreter."),
        ("LIMIT_PERCENT", "half", "LIMIT_PERCENT is a whole number from 1, not half."),
    ],
)
def test_wrong_settings(name: str, value: str, said: str, tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", SCRIPT, "out"], env={**os.environ, name: value}, capture_output=True, text=True, timeout=20,
        check=False, cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (2, said + "\n")
    assert not list(tmp_path.iterdir())


def test_every_stage_succeeds_and_everything_comes_home(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout
    out = tmp_path / "out"
    found = statuses((out / "summary.txt").read_text())
    assert list(found) == STAGES
    assert {stage for stage, status in found.items() if status == "skipped"} == {"ncu", "sanitizer"}
    assert {status for stage, status in found.items() if stage not in ("ncu", "sanitizer")} == {"0"}
    assert sorted(path.name for path in out.iterdir()) == [
        "geometry.json", "overhead.json", "results.tgz", "summary.txt", "variants.json"]  # fmt: skip
    assert {"smoke.json", "peers.json", "summary.txt", *(f"{stage}.log" for stage in STAGES)} <= archived(tmp_path)
    assert not list((tmp_path / "tmp").iterdir())
    # The archive was complete whenever a stage began.
    seen = [set(line.replace("./", "").split()) for line in (tmp_path / "seen").read_text().splitlines()]
    assert len(seen) == 7
    for before, stage in zip(seen, ["smoke", "variants", "host_overhead", "overhead", "geometry", "residency", "peers"],
                             strict=True):  # fmt: skip
        assert {f"{earlier}.log" for earlier in STAGES[: STAGES.index(stage)]} <= before
        assert f"{stage}.log" not in before


def test_a_stage_that_fails_or_hangs_does_not_stop_the_next(tmp_path: Path) -> None:
    hanging = '*"bench host-overhead"*) sleep 40 ;;'
    failing = '*"bench geometry"*) echo "geometry went wrong: µs"; exit 3 ;;'
    done = run(tmp_path, f"{hanging}\n{failing}")
    assert done.returncode == 1
    found = statuses((tmp_path / "out" / "summary.txt").read_text())
    assert list(found) == STAGES
    assert {stage: status for stage, status in found.items() if status not in ("0", "skipped")} == {
        "host_overhead": "124",
        "geometry": "3",
    }
    assert "geometry went wrong: µs" in done.stdout
    assert {"geometry.log", "peers.json"} <= archived(tmp_path)


def test_no_stage_begins_after_the_end(tmp_path: Path) -> None:
    done = run(tmp_path, '*"bench smoke"* | *"bench bandwidth"*) sleep 40 ;;', percent=1)  # 5 s in all
    found = statuses(done.stdout)
    assert done.returncode == 1
    assert list(found) == STAGES
    assert found["smoke"] == found["variants"] == "124"


def test_the_second_command_goes_on_from_the_first(tmp_path: Path) -> None:
    best = '*"kernel_tiles best"*) echo 4096:2 ;;'
    kept = '*"bench smoke"*) exit 3 ;;'
    assert run(tmp_path, kept).returncode == 1
    done = run(tmp_path, best, "--more", str(tmp_path / "out"), percent=20)
    assert done.returncode == 0, done.stdout
    assert statuses((tmp_path / "out" / "summary_more.txt").read_text()).keys() == {
        "set_up",
        "bandwidth",
        "overhead_all",
    }
    assert "The fastest tile of variants.json is 4096:2." in done.stdout
    assert {"smoke.log", "summary.txt", "peers.json", "bandwidth.json", "overhead_all.json"} <= archived(tmp_path)
    assert len(list((tmp_path / "out").iterdir())) == 8


def test_what_is_there_comes_home_when_it_is_ended(tmp_path: Path) -> None:
    path = stub(tmp_path, '*"bench variants"* | *"bench bandwidth"*) echo begun; sleep 40 ;;')
    with subprocess.Popen(
        ["bash", SCRIPT, "out"], env={**environment(tmp_path), "PYTHON": str(path)}, cwd=tmp_path,
        stdout=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        until = time.monotonic() + 20
        while not (tmp_path / "out" / "summary.txt").exists() and time.monotonic() < until:
            time.sleep(0.05)
        while "smoke.log" not in archived(tmp_path) and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 143
    assert "variants.log" in archived(tmp_path)
    assert not list((tmp_path / "tmp").iterdir())


def bundle(folder: Path, megabytes: int, *names: str) -> subprocess.CompletedProcess[str]:
    """The script with a pip that brings wheels of a size."""
    made = "\n".join(f'truncate -s {megabytes}MB "$new/{name}-1.0-py3-none-any.whl"' for name in names)
    path = folder / "python"
    path.write_text(f"#!/bin/bash\nwhile [[ $1 != --dest ]]; do shift; done\nnew=$2\n{made}\n")
    path.chmod(0o755)
    return subprocess.run(
        ["bash", BUNDLE, str(folder / "wheels")], env={**os.environ, "PYTHON": str(path)}, capture_output=True,
        text=True, timeout=20, check=False,
    )  # fmt: skip


def test_the_bundle_is_small_and_whole(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    done = bundle(tmp_path, 11, "kornia", "kornia_rs", "simplejpeg")
    assert (done.returncode, done.stderr) == (1, "The wheels are 33 MB, more than 30 MB.\n")
    assert not wheels.exists()
    done = bundle(tmp_path, 1, "kornia")
    assert (done.returncode, done.stderr) == (1, "kornia_rs: pip has brought no wheel.\n")
    assert bundle(tmp_path, 1, "kornia", "kornia_rs", "simplejpeg").returncode == 0
    assert len(list(wheels.iterdir())) == 3
    (wheels / "thesis.txt").touch()
    done = bundle(tmp_path, 1, "kornia", "kornia_rs", "simplejpeg")
    assert (done.returncode, done.stderr) == (2, f"{wheels} holds more than wheels; name another folder.\n")
    done = subprocess.run(["bash", BUNDLE], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")
