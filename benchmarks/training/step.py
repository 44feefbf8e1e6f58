"""A training step with any method, and its stages: what the suites `overhead` and `batch-time` measure.

A step is: fetch a batch, mix, then forward, backward and SGD of one model that all methods share.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from diffcore_gpu import CounterpartStore, DiffCoreMix
from diffcore_gpu.baselines import Batch, Mixed, cross_entropy, make_baseline
from diffcore_gpu.benchmarks.harness.random_data import MEAN, STD
from diffcore_gpu.benchmarks.paper import AGAIN, VANILLA
from diffcore_gpu.benchmarks.training.models import paper_sgd

FAILURES = (RuntimeError, ValueError, ImportError, MemoryError, ArithmeticError, AssertionError)
"""What a method may raise that concerns this method alone; running out of GPU memory is a RuntimeError."""


def loss_of(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy, the mean over the batch; targets are class weights float32 [M, K], or labels int64 [M]."""
    if targets.dtype == torch.int64:
        return nn.functional.cross_entropy(logits.float(), targets)
    return cross_entropy(logits, targets)


Mix = Callable[[Batch, nn.Module], Mixed]
"""Takes a batch and the model; the targets of its result may be labels, too: see `loss_of`."""


class Batches(Protocol):
    """Where batches come from.

    Attributes:
        ahead: batches that may lie ready when a row of steps begins.
    """

    ahead: int

    def next(self) -> tuple[Batch, float]:
        """A batch on the device, and the seconds that the host waited for the loader."""
        ...


def mix_of(ours: DiffCoreMix) -> Mix:
    """This library's transform as the training step calls it."""
    return lambda batch, model: Mixed(ours(batch.images, batch.index), batch.labels)


def make_mix(name: str, num_classes: int, store: CounterpartStore) -> Mix:
    """Any other method as the training step calls it.

    Args:
        name: `VANILLA`, `AGAIN`, or a name of `diffcore_gpu.baselines`.
        num_classes: K.
        store: counterparts, for the methods that need them.

    Raises:
        ImportError, ValueError: of `make_baseline`.
    """
    if name in (VANILLA, AGAIN):
        return lambda batch, model: Mixed(batch.images, batch.labels)
    return make_baseline(name, num_classes, mean=MEAN, std=STD, store=store)


class Row(NamedTuple):
    """The mean step of one row in seconds, from event to event on a GPU, by the clock on the CPU.

    Attributes:
        load, mix, train: its stages.
        waited: for the loader, by the host.
        step: all of it.
    """

    load: float
    mix: float
    train: float
    waited: float
    step: float


class Trainer:
    """One model and its optimizer, SGD as in the paper.

    Args:
        model: in training mode, on the device and in the memory format of its training.
        device: where it is.
        amp: autocast to bfloat16.
    """

    def __init__(self, model: nn.Module, device: torch.device, *, amp: bool) -> None:
        self.model, self.device = model, device
        self._optimizer = paper_sgd(model)
        self._amp = amp

    def row(self, batches: Batches, mix: Mix, steps: int) -> Row:
        """Train some steps, and wait for the device at the end.

        Args:
            batches: where they come from.
            mix: the method.
            steps: how many.
        """
        now, seconds = (_event, _between) if self.device.type == "cuda" else (time.perf_counter, _difference)
        marks: list[tuple[Any, Any, Any, Any]] = []
        waited = 0.0
        for _ in range(steps):
            start = now()
            batch, wait = batches.next()
            loaded = now()
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._amp):
                made = mix(batch, self.model)
                mixed = now()
                with made.during_forward:
                    logits = self.model(made.images)
                loss = loss_of(logits, made.targets)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self._optimizer.step()
            marks.append((start, loaded, mixed, now()))
            waited += wait
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        load, mixing, train = (sum(seconds(mark[k], mark[k + 1]) for mark in marks) / steps for k in range(3))
        return Row(load, mixing, train, waited / steps, seconds(marks[0][0], marks[-1][3]) / steps)


def _event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _between(start: torch.cuda.Event, end: torch.cuda.Event) -> float:
    milliseconds: float = start.elapsed_time(end)
    return milliseconds / 1e3


def _difference(start: float, end: float) -> float:
    return end - start
