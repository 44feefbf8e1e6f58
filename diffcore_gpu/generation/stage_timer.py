"""How long the stages of a pipeline take, measured where they are called and without waiting for the GPU."""

from __future__ import annotations

import functools
import time
from typing import Any

import torch


class StageTimer:
    """Adds up the time of named stages.

    On a GPU a stage is bracketed by two events in its stream, which cost microseconds and are read later, by `settle`.

    Args:
        device: where the stages run.

    Attributes:
        seconds: by stage, what `settle` has read.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._open: dict[str, Any] = {}
        self._closed: list[tuple[str, Any, Any]] = []
        self.seconds: dict[str, float] = {}

    def begin(self, stage: str) -> None:
        """The stage begins; one that was begun before and failed is forgotten."""
        self._open[stage] = self._now()

    def end(self, stage: str) -> None:
        """The stage has ended."""
        self._closed.append((stage, self._open.pop(stage), self._now()))

    def settle(self) -> None:
        """Read the clocks of everything that has ended. On a GPU it waits for that."""
        for stage, begin, end in self._closed:
            if self._cuda:
                end.synchronize()
                spent = begin.elapsed_time(end) / 1e3
            else:
                spent = end - begin
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent
        self._closed.clear()

    def watch_module(self, stage: str, module: torch.nn.Module) -> None:
        """Count every call of the module."""
        module.register_forward_pre_hook(lambda *_: self.begin(stage))
        module.register_forward_hook(lambda *_: self.end(stage))

    def watch_method(self, stage: str, owner: object, name: str) -> None:
        """Count every call of a method."""
        method = getattr(owner, name)

        @functools.wraps(method)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self.begin(stage)
            result = method(*args, **kwargs)
            self.end(stage)
            return result

        setattr(owner, name, timed)

    def _now(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
