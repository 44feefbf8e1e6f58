"""Jobs in threads: all of them are done, the first failure is the one that is raised, and nobody works on behind it."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from diffcore_gpu.store import row_threads
from diffcore_gpu.store.row_threads import MOST_THREADS, for_each


@pytest.fixture(autouse=True)
def _two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 100])
def test_every_job_is_done_once(count):
    done = []
    for_each(done.append, count)
    assert sorted(done) == list(range(count))


@pytest.mark.parametrize(("allowed", "threads"), [(2, 4), (40, MOST_THREADS)])
def test_several_at_once(allowed, threads):
    torch.set_num_threads(allowed)
    met = threading.Barrier(threads, timeout=30)
    for_each(lambda _: met.wait(), threads)  # passes only when that many are at work


def test_one_thread_works_by_itself(monkeypatch):
    def none():
        raise AssertionError("threads were asked for")

    monkeypatch.setattr(row_threads, "_threads", none)
    torch.set_num_threads(1)
    seen = set()
    for_each(lambda _: seen.add(threading.current_thread()), 50)
    assert seen == {threading.current_thread()}


def test_the_first_failure_is_raised():
    def job(position):
        if position in (20, 21, 22, 40):
            time.sleep(0.01 * (25 - position) if position < 25 else 0)  # the later ones fail earlier
            raise ValueError(f"job {position}")

    for _ in range(3):
        with pytest.raises(ValueError, match=r"^job 20$"):
            for_each(job, 60)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nobody_works_on_after_an_error(error):
    caller = threading.current_thread()
    running = []

    def job(position):
        running.append(position)
        if threading.current_thread() is caller:
            raise error
        time.sleep(0.02)
        running.remove(position)

    with pytest.raises(error):
        for_each(job, 1000)
    assert len(running) == 1  # the one that raised
    before = list(running)
    time.sleep(0.05)
    assert running == before


def test_callers_beside_each_other():
    results = {}

    def call(name):
        done = []
        for_each(done.append, 200)
        results[name] = sorted(done)

    callers = [threading.Thread(target=call, args=(name,)) for name in range(20)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert results == {name: list(range(200)) for name in range(20)}
