"""Seconds that one training batch takes under every method: the paper's Fig. 6 on this machine.

The same training steps as in `overhead`, in the same turns and with vanilla steps twice, told in seconds and by stages:
fetching the batch, mixing (with the passes through the model that some methods need), and forward, backward and SGD.
The paper measured CUB; its text states the seconds of two methods, which stand beside.

    diffcore bench batch-time --real birds --store stores/birds --json benchmarks/results/DEVICE/batch_time.json
    diffcore bench batch-time --device cpu --model resnet18 --size 64 --batch 4 --repeats 3 --methods mixup
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffcore_gpu.benchmarks import paper
from diffcore_gpu.benchmarks.harness.measure import table
from diffcore_gpu.benchmarks.paper import OURS
from diffcore_gpu.benchmarks.reporting.step_tables import load, unfinished
from diffcore_gpu.benchmarks.steps.results import AtBatch, at_batches
from diffcore_gpu.benchmarks.steps.run import step_suite

METHODS = [OURS, "mixup", "cutmix", "saliencymix", "comixup", "guided-ap-random", "guided-ap-greedy", "diffusemix"]
"""Those of Fig. 6; it does not say which Guided-AP it shows."""


def report(result: Mapping[str, Any]) -> str:
    """A table for each batch size of a result."""
    found = at_batches(result["results"])
    notes = [*unfinished(result, found), load(result["environment"])]
    return "\n\n".join([*map(_table, found), "\n".join(notes)])


def _table(at: AtBatch) -> str:
    rows = []
    for name, arm in at.arms.items():
        theirs = paper.at_batch(paper.BATCH_SECONDS, name, at.batch)
        rows.append(
            (
                name,
                f"{arm.time['median_ms'] / 1e3:.4f}",
                f"{arm.time['p10_ms'] / 1e3:.4f}–{arm.time['p90_ms'] / 1e3:.4f}",
                *(f"{arm.stages[f'{stage}_ms'] / 1e3:.4f}" for stage in ("load", "mix", "train")),
                "" if theirs is None else f"{theirs:.2f}",
            )
        )
    text = table((f"batch {at.batch}", "step, s", "p10–p90", "load", "mix", "train", "paper, s"), rows)
    return "\n".join([text, *(f"{name} failed: {reason}" for name, reason in at.failed.items())])


main = step_suite("batch-time", METHODS, report)
