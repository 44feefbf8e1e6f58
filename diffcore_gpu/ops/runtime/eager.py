"""The one way around torch's dispatcher, for the CPU and for GPUs.

To go through it costs an eager call some 10 µs of the host: the dispatcher boxes 14 arguments and checks them against
the schema of the operator. On a CPU that is as long as to mix an image; on a GPU it is half of what the whole call may
take. `diffcore bench host-overhead` measures it: its rows "call" and "operator".

The operators are needed where a tracer or a profiler looks on, and where a subclass, a mode or a transform takes
operators over. And they check what they are given; so what was checked and run once is run again without them only
while shapes, strides, dtypes, devices and settings are those of that call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

Run: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor | None, Tensor, Tensor], object]
"""Mixes (images, out, index, labels, round, status), and advances the round if it is to be advanced."""


def is_profiled() -> bool:
    """Whether torch's profiler looks on."""
    return bool(torch.autograd.profiler._is_profiler_enabled)


def may_bypass(images: Tensor) -> bool:
    """Whether nobody looks on or takes operators over, so that these images may be mixed without an operator."""
    return (
        type(images) is Tensor
        and not images.requires_grad
        and not is_profiled()
        and not torch._C._len_torch_dispatch_stack()
        and torch._C._functorch.peek_interpreter_stack() is None
        and torch._C._get_tracing_state() is None
    )


def _signature(images: Tensor, index: Tensor, labels: Tensor | None, settings: Any) -> tuple[Any, ...]:
    """All that was checked about a batch, but for values."""
    of_labels = None if labels is None else (labels.dtype, labels.shape, labels.device)
    return (
        images.shape, images.stride(), images.dtype, images.device, index.shape, index.dtype, index.device, of_labels,
        settings,
    )  # fmt: skip


class EagerCall:
    """A call of an operator that was checked and run, to be run again without the dispatcher.

    Args:
        run: mixes.
        empty: makes the output for such images; None: they are mixed in place.
        images, index, labels: those of the call.
        settings: what else may change from call to call, to be compared.
    """

    def __init__(
        self,
        run: Run,
        empty: Callable[[Tensor], Tensor] | None,
        images: Tensor,
        index: Tensor,
        labels: Tensor | None,
        settings: Any,
    ) -> None:
        self._run = run
        self._empty = empty
        self._signature = _signature(images, index, labels, settings)

    def __call__(
        self, images: Tensor, index: Tensor, labels: Tensor | None, round: Tensor, status: Tensor, settings: Any
    ) -> Tensor | None:
        """The mixed batch; None where this is another call than the one that was checked."""
        if not may_bypass(images) or _signature(images, index, labels, settings) != self._signature:
            return None
        if self._empty is None:
            self._run(images, images, index, labels, round, status)
            increment_version(images)
            return images
        out = self._empty(images)
        self._run(images, out, index, labels, round, status)
        return out
