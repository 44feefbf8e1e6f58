"""Seconds that one training batch takes under every method: the paper's Fig. 6 on this machine.

The same training steps as in `overhead`, told in seconds and by stages: fetching the batch, mixing (with the passes
through the model that some methods need), and forward, backward and SGD. The paper measured CUB; its text states the
seconds of two methods, which stand beside.

    diffcore bench batch-time --data birds --store stores/birds --json benchmarks/results/DEVICE/batch_time.json
    diffcore bench batch-time --device cpu --model resnet18 --size 64 --batch 4 --repeats 3 --methods mixup
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffcore_gpu.benchmarks import paper
from diffcore_gpu.benchmarks.arguments import SuiteParser, device_of
from diffcore_gpu.benchmarks.measure import table
from diffcore_gpu.benchmarks.overhead import (
    PACKAGES,
    add_step_options,
    check_step_options,
    measure_steps,
    step_setting,
)
from diffcore_gpu.benchmarks.paper import OURS
from diffcore_gpu.benchmarks.runs import Run
from diffcore_gpu.benchmarks.step_input import make_input

METHODS = (OURS, "mixup", "cutmix", "saliencymix", "comixup", "guided-ap-random", "guided-ap-greedy", "diffusemix")
"""Those of Fig. 6; it does not say which Guided-AP it shows."""


def report(result: Mapping[str, Any]) -> str:
    """The table of one batch size."""
    rows = []
    for name, time in result["times"].items():
        stages = result["stages"][name]
        theirs = paper.at_batch(paper.BATCH_SECONDS, name, result["batch"])
        rows.append(
            (
                name,
                f"{time['median_ms'] / 1e3:.4f}",
                f"{time['p10_ms'] / 1e3:.4f}–{time['p90_ms'] / 1e3:.4f}",
                *(f"{stages[f'{stage}_ms'] / 1e3:.4f}" for stage in ("load", "mix", "train")),
                "" if theirs is None else f"{theirs:.2f}",
            )
        )
    header = (f"batch {result['batch']}", "step, s", "p10–p90", "load", "mix", "train", "paper, s")
    text = table(header, rows)
    return "\n".join([text, *(f"{name} failed: {reason}" for name, reason in result["failed"].items())])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is not in the JSON file yet; the result is written after each batch size."""
    parser = SuiteParser("batch-time", __doc__)
    add_step_options(parser, METHODS)
    options = parser.parse(arguments)
    check_step_options(options)
    device = device_of(options)
    run = Run("batch-time", options, device, step_setting(options), PACKAGES)
    with tempfile.TemporaryDirectory() as folder:
        made = make_input(options, Path(folder))
        run.do(
            [{"batch": batch} for batch in options.batch],
            lambda part: measure_steps(options, made, part["batch"], device),
            report,
        )
