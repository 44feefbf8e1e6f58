"""A writer that is killed, as a program: it reads jobs from standard input and answers each with a line of JSON.

It imports torch once and forks a process for every job, so that killing a hundred writers takes seconds. The fork dies
by SIGKILL: before its n-th call of the system that changes the disk, in the middle of that call if it is a write, or
after a number of seconds.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from diffcore_gpu.store import CounterpartWriter, writer
from tests.store import work

CALLS = ("pwrite", "replace", "rename", "unlink", "rmdir", "mkdir", "ftruncate")


def die_at(step: int) -> list[int]:
    """Count the calls that change the disk, and die at the one with this number."""
    count = [0]

    def wrap(name):
        real = getattr(os, name)

        def call(*args, **kwargs):
            if count[0] == step:
                if name == "pwrite":
                    real(args[0], args[1][: len(args[1]) // 2], args[2])
                os.kill(os.getpid(), signal.SIGKILL)
            count[0] += 1
            return real(*args, **kwargs)

        setattr(os, name, call)

    for name in CALLS:
        wrap(name)
    # flushing guards against a power cut, which SIGKILL is not, and would take most of the time
    os.fsync = os.fdatasync = lambda fd: None
    return count


def write(job: dict) -> int:
    """Do the job; the number of counted calls that it took."""
    writer.AUTO_FLUSH_BYTES = 3 * work.image(0).size
    count = die_at(job.get("step", -1))
    with CounterpartWriter(Path(job["path"]), **work.arguments(**job.get("changes", {})), resume=True) as made:
        for row in range(made.num_rows, job.get("num_rows", work.NUM_ROWS) if not made.finished else 0):
            work.add(made, row)
            if row % 7 == 6:
                made.flush()
            time.sleep(job.get("pause", 0))
        made.update_metadata({"generated": job.get("num_rows", work.NUM_ROWS)})
    return count[0]


def main() -> None:
    """Answer jobs until the input ends."""
    for line in sys.stdin:
        job = json.loads(line)
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(write_end, str(write(job)).encode())
            except BaseException as error:  # noqa: BLE001  the parent prints it
                os.write(write_end, repr(error).encode())
            finally:
                os._exit(0)
        os.close(write_end)
        if "seconds" in job:
            time.sleep(job["seconds"])
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        with os.fdopen(read_end) as answer:
            text = answer.read()
        print(json.dumps({"killed": os.WIFSIGNALED(status), "answer": text}), flush=True)


if __name__ == "__main__":
    main()
