"""Batches and options for tests of what trains on them."""

from __future__ import annotations

from diffcore_gpu.baselines import Batch

TINY_STEPS = ["--device", "cpu", "--model", "squeezenet1_1", "--size", "32", "--warmup", "1", "--steps", "2"]


class OneBatch:
    """The same batch again and again."""

    ahead = 0

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def next(self) -> tuple[Batch, float]:
        return self._batch, 0.0


class WaitedFor(OneBatch):
    """As from a loader that has three batches ready, each of which is waited for nonetheless."""

    ahead = 3

    def next(self) -> tuple[Batch, float]:
        return self._batch, 0.25
