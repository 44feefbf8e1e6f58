"""The order of all images, against a plain simulation of rounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffcore_gpu.generation.schedule import Schedule


def passes(task, attempt, key):
    """Verdicts of a made-up filter."""
    return hash((task, attempt, key)) % 3 != 0


def simulate(num_tasks, max_attempts, key):
    """[(task, attempt, verdict)] in the order of the definition, and what was given up."""
    images, pending = [], list(range(num_tasks))
    for attempt in range(max_attempts):
        images += [(task, attempt, passes(task, attempt, key)) for task in pending]
        pending = [task for task in pending if not passes(task, attempt, key)]
    return images, pending


COUNTS = (st.integers(1, 30), st.integers(1, 4), st.integers(1, 12), st.integers())


@given(*COUNTS, st.data())
def test_rounds(num_tasks, max_attempts, batch_size, key, data):
    """Batches are handed out ahead of the verdicts, at most two of them; the order is that of the definition."""
    images, given_up = simulate(num_tasks, max_attempts, key)
    schedule, seen, waiting = Schedule(num_tasks, max_attempts, batch_size), [], []
    while not schedule.done:
        batch = schedule.next() if len(waiting) < 2 and (not waiting or data.draw(st.booleans())) else None
        if batch is not None:
            assert 1 <= len(batch.tasks) <= batch_size
            waiting.append(batch)
            continue
        tasks, attempt = waiting.pop(0)
        verdicts = [passes(task, attempt, key) for task in tasks.tolist()]
        seen += zip(tasks.tolist(), [attempt] * len(tasks), verdicts, strict=True)
        schedule.settle(np.array(verdicts))
    assert schedule.next() is None
    assert seen == images
    assert schedule.given_up.tolist() == given_up
    assert (schedule.judged, schedule.accepted) == (len(images), num_tasks - len(given_up))
    assert schedule.expected_images() == 0


@given(*COUNTS, st.integers(0))
def test_resuming(num_tasks, max_attempts, batch_size, key, stop):
    """Verdicts of an earlier process, all at once, lead to the same next batch."""
    images, _ = simulate(num_tasks, max_attempts, key)
    known = images[: stop % (len(images) + 1)]
    schedule = Schedule(num_tasks, max_attempts, batch_size)
    batches = schedule.settle(np.array([verdict for _, _, verdict in known], bool))
    assert [(task, batch.attempt) for batch in batches for task in batch.tasks.tolist()] == [
        (task, attempt) for task, attempt, _ in known
    ]
    batch = schedule.next()
    if len(known) == len(images):
        assert batch is None
        assert schedule.done
    else:
        expected = images[len(known) : len(known) + len(batch.tasks)]
        assert [(task, batch.attempt) for task in batch.tasks.tolist()] == [image[:2] for image in expected]


def test_expected_images():
    schedule = Schedule(1000, 10, 100)
    assert schedule.expected_images() == 1000
    schedule.next()
    schedule.settle(np.arange(100) % 5 != 0)  # a fifth is discarded
    # 900 are left of this round, and each further round has a fifth of the one before
    assert schedule.expected_images() == pytest.approx(900 + 200 / (1 - 0.2), rel=1e-3)


def test_too_many_verdicts():
    with pytest.raises(ValueError, match="1 verdicts too many"):
        Schedule(2, 1, 1).settle(np.ones(3, bool))
