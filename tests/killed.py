"""Work that is killed: a program that forks a process for every job, and the side of the test that hands it jobs.

The program imports torch once, so that killing a hundred runs takes seconds. Jobs and answers are lines of JSON on its
standard input and output.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CALLS = ("pwrite", "replace", "rename", "unlink", "rmdir", "mkdir", "ftruncate")
"""Of the system, which change the disk."""


@contextmanager
def killer(module: str) -> Iterator[Callable[..., dict[str, Any]]]:
    """A function that runs one job of such a program and says whether it was killed, and its answer."""
    with subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:

        def run(**job: object) -> dict[str, Any]:
            process.stdin.write(json.dumps(job, default=str) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield run
        process.stdin.close()


def without_flushing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flushing guards against a power cut, which SIGKILL is not, and would take most of the time."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.setattr(os, "fdatasync", lambda fd: None)


def die_at(step: int) -> list[int]:
    """Count the calls that change the disk, and die at the one with this number: before it, or amid a write."""
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
    os.fsync = os.fdatasync = lambda fd: None  # as `without_flushing`
    return count


def answer_jobs(do: Callable[[dict[str, Any]], int]) -> None:
    """Do every job in a fork, which is killed after the job's `seconds` where it has some, until the input ends."""
    for line in sys.stdin:
        job = json.loads(line)
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(write_end, str(do(job)).encode())
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
            print(json.dumps({"killed": os.WIFSIGNALED(status), "answer": answer.read()}), flush=True)
