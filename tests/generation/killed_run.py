"""A generation run that is killed, as a program: it reads jobs from standard input and answers each with a line.

It imports torch once and forks a process for every job. The fork dies by SIGKILL before its n-th call of the system
that changes the disk, or in the middle of that call if it is a write.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from diffcore_gpu.generation import recorder
from diffcore_gpu.generation.loop import generate
from diffcore_gpu.generation.work import plan_work
from diffcore_gpu.packing.imagefolder import scan_image_folder
from tests.generation import fakes
from tests.store.killed_writer import die_at


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


def main() -> None:
    """Answer jobs until the input ends."""
    for line in sys.stdin:
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(write_end, str(run(json.loads(line))).encode())
            except BaseException as error:  # noqa: BLE001  the parent prints it
                os.write(write_end, repr(error).encode())
            finally:
                os._exit(0)
        os.close(write_end)
        _, status = os.waitpid(child, 0)
        with os.fdopen(read_end) as answer:
            print(json.dumps({"killed": os.WIFSIGNALED(status), "answer": answer.read()}), flush=True)


if __name__ == "__main__":
    main()
