"""Stages of a pipeline are counted where they are called."""

from __future__ import annotations

import pytest
import torch

from diffcore_gpu.generation import stage_timer
from diffcore_gpu.generation.stage_timer import StageTimer


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    now = [0.0]
    monkeypatch.setattr(stage_timer.time, "perf_counter", lambda: now[0])
    return now


class Working(torch.nn.Module):
    """Takes as many seconds as it is told, or fails."""

    def __init__(self, clock):
        super().__init__()
        self._clock = clock

    def forward(self, seconds):
        self._clock[0] += abs(seconds)
        if seconds < 0:
            raise torch.OutOfMemoryError("out of memory")
        return seconds

    decode = forward


def test_modules_and_methods(clock):
    timer, module, other = StageTimer(torch.device("cpu")), Working(clock), Working(clock)
    timer.watch_module("denoiser", module)
    timer.watch_method("vae", other, "decode")
    assert module(2.0) == 2.0
    assert other.decode(3.0) == 3.0
    clock[0] += 100
    module(0.5)
    assert timer.seconds == {}
    timer.settle()
    assert timer.seconds == {"denoiser": 2.5, "vae": 3.0}
    module(1.0)
    timer.settle()
    assert timer.seconds == {"denoiser": 3.5, "vae": 3.0}


def test_a_call_that_failed_does_not_count(clock):
    timer, module = StageTimer(torch.device("cpu")), Working(clock)
    timer.watch_module("denoiser", module)
    with pytest.raises(torch.OutOfMemoryError):
        module(-5.0)
    module(1.0)
    timer.settle()
    assert timer.seconds == {"denoiser": 1.0}
