"""A run that is killed at any moment and started again gives the bytes of one that was not disturbed."""

from __future__ import annotations

import random
import shutil

import pytest

from diffcore_gpu.generation import recorder
from diffcore_gpu.generation.loop import generate
from diffcore_gpu.generation.work import plan_work
from diffcore_gpu.packing.imagefolder import scan_image_folder
from tests.generation import fakes
from tests.killed import killer, without_flushing


@pytest.fixture(scope="module")
def run_killed():
    with killer("tests.generation.killed_run") as run:
        yield run


@pytest.fixture
def real(tmp_path):
    return fakes.real_images(tmp_path / "real")


@pytest.fixture
def undisturbed(tmp_path, real, monkeypatch):
    without_flushing(monkeypatch)
    out = tmp_path / "undisturbed" / "out"
    finish(real, out)
    return fakes.contents(out)


def finish(real, out):
    work = plan_work(scan_image_folder(real), fakes.settings())
    return generate(work, out, fakes.FakeTextToImage(rounding=True), fakes.FakeFilter(fakes.labels()), resume=True)


@pytest.mark.parametrize("save_seconds", [0.0, pytest.param(1e9, marks=pytest.mark.slow)])
def test_killed_at_every_step(tmp_path, real, run_killed, undisturbed, monkeypatch, save_seconds):
    """Before, and for writes in the middle of, every single call that changes the disk."""
    monkeypatch.setattr(recorder, "SAVE_SECONDS", save_seconds)
    out = tmp_path / "killed" / "out"
    step = 0
    while (result := run_killed(real=real, out=out, step=step, save_seconds=save_seconds))["killed"]:
        report = finish(real, out)
        assert fakes.contents(out) == undisturbed, f"step {step}"
        assert (report.total.generated, report.total.accepted) == (19, 10)
        shutil.rmtree(out.parent)
        step += 1
    assert int(result["answer"]) == step > 60
    assert fakes.contents(out) == undisturbed


def test_killed_again_and_again(tmp_path, real, run_killed, undisturbed):
    """Several kills per run, each a random number of steps after the last."""
    draw = random.Random(0)
    for attempt in range(8):
        out = tmp_path / f"killed{attempt}" / "out"
        kills = 0
        while (result := run_killed(real=real, out=out, step=draw.randrange(70), save_seconds=0.0))["killed"]:
            kills += 1
        assert result["answer"].isdigit(), result["answer"]
        assert kills > 0
        assert fakes.contents(out) == undisturbed
