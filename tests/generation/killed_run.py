"""A generation run that is killed at a call that changes the disk; see `tests.killed`."""

from __future__ import annotations

from pathlib import Path

from diffcore_gpu.generation import recorder
from diffcore_gpu.generation.loop import generate
from diffcore_gpu.generation.work import plan_work
from diffcore_gpu.packing.imagefolder import scan_image_folder
from tests.generation import fakes
from tests.killed import answer_jobs, die_at


def run(job: dict) -> int:
    """Do the job; the number of counted calls that it took."""
    recorder.SAVE_SECONDS = job["save_seconds"]
    count = die_at(job["step"])
    generate(
        plan_work(scan_image_folder(Path(job["real"])), fakes.settings()),
        Path(job["out"]),
        fakes.FakeTextToImage(rounding=True),
        fakes.FakeFilter(fakes.labels()),
        resume=True,
    )
    return count[0]


if __name__ == "__main__":
    answer_jobs(run)
