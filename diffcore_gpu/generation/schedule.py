"""Which images are generated, and in which order.

Every counterpart that is wanted is a task. Round a makes attempt a at each task that has not passed yet, in the order
of the tasks. So the order of all images, and what is in each batch, is a function of the verdicts alone: of what is
durable, and not of when the process was killed, nor of which batch was judged while which other was generated.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from diffcore_gpu.generation.draws import Int64s

Bools = npt.NDArray[np.bool_]


class Batch(NamedTuple):
    """Images that are generated together.

    Attributes:
        tasks: int64 [n], their tasks.
        attempt: the number of the attempt, the same for all.
    """

    tasks: Int64s
    attempt: int


class Schedule:
    """Hands out batches and takes verdicts, each in order.

    Args:
        num_tasks: counterparts that are wanted.
        max_attempts: images made for one of them before it is given up.
        batch_size: images in a batch; the last of a round may be smaller.
    """

    def __init__(self, num_tasks: int, max_attempts: int, batch_size: int) -> None:
        self.num_tasks = num_tasks
        self._max_attempts = max_attempts
        self._batch_size = batch_size
        self._attempt = 0
        self._pending: Int64s = np.arange(num_tasks, dtype=np.int64)
        self._issued = 0  # of the pending ones
        self._settled = 0
        self._failed: list[Int64s] = []
        self._num_failed = 0
        self.accepted = 0
        self.judged = 0

    @property
    def given_up(self) -> Int64s:
        """The tasks whose every attempt was discarded, ascending, int64."""
        return self._pending if self._attempt == self._max_attempts else self._pending[:0]

    @property
    def done(self) -> bool:
        """Whether no image is left to be generated or judged."""
        return len(self._pending) == 0 or self._attempt == self._max_attempts

    def next(self) -> Batch | None:
        """The next batch; None where there is none before the verdicts on those handed out, or at all."""
        if self.done or self._issued == len(self._pending):
            return None
        tasks = self._pending[self._issued : self._issued + self._batch_size]
        self._issued += len(tasks)
        return Batch(tasks, self._attempt)

    def settle(self, accepted: Bools) -> list[Batch]:
        """Take the verdicts on the next images, bool [n]: those of a batch, or of many when resuming.

        Returns:
            What they were on: together n tasks, those of one attempt in one item.

        Raises:
            ValueError: they are more than there can be.
        """
        settled = []
        while len(accepted):
            if self.done:
                raise ValueError(f"{len(accepted)} verdicts too many.")
            now, accepted = np.split(accepted, [len(self._pending) - self._settled])
            tasks = self._pending[self._settled : self._settled + len(now)]
            settled.append(Batch(tasks, self._attempt))
            self._failed.append(tasks[~now])
            self._num_failed += len(self._failed[-1])
            self._settled += len(now)
            self._issued = max(self._issued, self._settled)
            self.judged += len(now)
            self.accepted += int(now.sum())
            if self._settled == len(self._pending):
                self._pending = np.concatenate(self._failed)
                self._failed, self._num_failed = [], 0
                self._attempt += 1
                self._issued = self._settled = 0
        return settled

    def expected_images(self) -> float:
        """How many more images there will be, about, at the discard rate so far."""
        rate = 1 - self.accepted / self.judged if self.judged else 0.0
        first = len(self._pending) - self._settled
        second = self._num_failed + rate * first  # what the next round begins with
        later = max(self._max_attempts - self._attempt - 1, 0)
        series = later if rate == 1 else (1 - rate**later) / (1 - rate)
        return 0.0 if self.done else first + second * series
