"""A run that is killed at any moment and started again gives the bytes of one that was not disturbed."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys

import pytest

from diffcore_gpu.generation import recorder
from diffcore_gpu.generation.loop import generate
from diffcore_gpu.generation.work import plan_work
from diffcore_gpu.packing.imagefolder import scan_image_folder
from tests.generation import fakes


@pytest.fixture(scope="module")
def killer():
    """A function that runs one job of `killed_run` and says whether it was killed, and its answer."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.generation.killed_run"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:

        def run(**job):
            process.stdin.write(json.dumps({name: str(value) for name, value in job.items()} | numbers(job)) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield run
        process.stdin.close()


def numbers(job):
    return {name: value for name, value in job.items() if isinstance(value, int | float)}


@pytest.fixture
def real(tmp_path):
    return fakes.real_images(tmp_path / "real")


@pytest.fixture
def undisturbed(tmp_path, real, monkeypatch):
    # flushing guards against a power cut, which SIGKILL is not, and would take most of the time
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.setattr(os, "fdatasync", lambda fd: None)
    out = tmp_path / "undisturbed" / "out"
    finish(real, out)
    return fakes.contents(out)


def finish(real, out):
    work = plan_work(scan_image_folder(real), fakes.settings())
    return generate(work, out, fakes.FakeTextToImage(rounding=True), fakes.FakeFilter(fakes.labels()), resume=True)


@pytest.mark.parametrize("save_seconds", [0.0, pytest.param(1e9, marks=pytest.mark.slow)])
def test_killed_at_every_step(tmp_path, real, killer, undisturbed, monkeypatch, save_seconds):
    """Before, and for writes in the middle of, every single call that changes the disk."""
    monkeypatch.setattr(recorder, "SAVE_SECONDS", save_seconds)
    out = tmp_path / "killed" / "out"
    step = 0
    while (result := killer(real=real, out=out, step=step, save_seconds=save_seconds))["killed"]:
        report = finish(real, out)
        assert fakes.contents(out) == undisturbed, f"step {step}"
        assert (report.total.generated, report.total.accepted) == (19, 10)
        shutil.rmtree(out.parent)
        step += 1
    assert int(result["answer"]) == step > 60
    assert fakes.contents(out) == undisturbed


def test_killed_again_and_again(tmp_path, real, killer, undisturbed):
    """Several kills per run, each a random number of steps after the last."""
    draw = random.Random(0)
    for attempt in range(8):
        out = tmp_path / f"killed{attempt}" / "out"
        kills = 0
        while (result := killer(real=real, out=out, step=draw.randrange(70), save_seconds=0.0))["killed"]:
            kills += 1
        assert result["answer"].isdigit(), result["answer"]
        assert kills > 0
        assert fakes.contents(out) == undisturbed
