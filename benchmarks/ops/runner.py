"""The one loop behind the suites of ops: every configuration, over a store of random counterparts, by turns."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffcore_gpu import CounterpartStore
from diffcore_gpu.benchmarks.harness.measure import interleaved, summary
from diffcore_gpu.benchmarks.harness.random_data import random_images, random_store
from diffcore_gpu.benchmarks.harness.runs import Run
from diffcore_gpu.benchmarks.ops.registry import Op

Summaries = dict[str, dict[str, Any]]
"""`summary` of each action, by its name."""


@dataclass(frozen=True)
class Case:
    """One configuration of an op.

    Attributes:
        op: that is measured.
        device: that measures.
        store: random counterparts, one for each of its samples.
        batch, size, dtype, memory_format: of the images that are mixed.
    """

    op: Op
    device: torch.device
    store: CounterpartStore
    batch: int
    size: int
    dtype: str
    memory_format: str

    def images(self) -> Tensor:
        """[batch, 3, size, size] random pixels on the device."""
        return random_images(self.batch, self.size, self.dtype, self.memory_format, self.device)

    def index(self) -> Tensor:
        """int64 [batch] samples of the store on the device, from the first on."""
        return torch.arange(self.batch, device=self.device) % self.store.num_samples

    def seconds(
        self,
        actions: Mapping[str, Callable[[], object]],
        *,
        prepare: Callable[[], object] | None = None,
        warmup: int | None = None,
    ) -> dict[str, list[float]]:
        """Of each round of every action, by turns, as the op says.

        Args:
            actions: what is compared, by name.
            prepare: called before every action, not measured.
            warmup: rounds before the measured ones; None: those of the op.
        """
        if self.op.host_clock and self.device.type == "cuda":
            prepare = torch.cuda.synchronize
        return interleaved(
            actions,
            device=torch.device("cpu") if self.op.host_clock else self.device,
            repeats=self.op.repeats,
            warmup=self.op.warmup if warmup is None else warmup,
            prepare=prepare,
            head_start=self.op.head_start,
            shuffle=self.op.shuffle,
        )

    def times(self, actions: Mapping[str, Callable[[], object]], **how: Any) -> Summaries:
        """`summary` of the seconds of every action; `how`: of `seconds`."""
        return summaries(self.seconds(actions, **how))


def summaries(seconds: Mapping[str, Sequence[float]], calls: int = 1) -> Summaries:
    """`summary` of every action, of which `calls` were measured as one."""
    return {name: summary([value / calls for value in values]) for name, values in seconds.items()}


def run_op(
    run: Run,
    op: Op,
    measure: Callable[[Case], Mapping[str, Any]],
    report: Callable[[dict[str, Any]], str],
    *,
    store_size: int | None = None,
) -> dict[str, Any]:
    """Measure and print every configuration that the run has not measured yet.

    Args:
        run: begun or resumed.
        op: with the configurations that are wanted.
        measure: the figures of a configuration.
        report: the text about them and what tells the configuration from the others.
        store_size: height and width of the store's rows; None: those of the images.

    Returns:
        The result.
    """
    for size in op.size:
        axes: dict[str, list[Any]] = {
            "size": [size],
            "dtype": op.dtype,
            "memory_format": op.memory_format,
            "batch": op.batch,
        }
        parts = [dict(zip(op.parts, values, strict=True)) for values in product(*(axes[name] for name in op.parts))]
        with tempfile.TemporaryDirectory() as folder:
            store = random_store(Path(folder) / "store", store_size or size)
            first = {name: values[0] for name, values in axes.items()}
            run.do(parts, partial(_measured, measure, Case(op, run.device, store, **first)), report)
    return run.result


def _measured(measure: Callable[[Case], Mapping[str, Any]], case: Case, part: Mapping[str, Any]) -> Mapping[str, Any]:
    return measure(replace(case, **part))
