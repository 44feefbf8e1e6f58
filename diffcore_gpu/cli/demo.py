"""`diffcore demo`: the whole path on handwritten digits, in a few minutes and without a download."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffcore_gpu.cli.console import print_json, print_table, progress_bars, say
from diffcore_gpu.cli.options import AsJson


def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything that the demo makes.")] = Path("demo-output"),
    seeds: Annotated[int, typer.Option(min=1, help="Training runs of each kind.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Generate, filter, verify, look at and train with counterparts of handwritten digits."""
    from diffcore_gpu.demo.run import run

    with progress_bars() as bar:
        outcome = run(out, seeds, say, bar("Training", "runs"), bar("Generating", "counterparts"))
    if as_json:
        arms = {arm.name: {"coverage": arm.coverage, "accuracies": arm.accuracies} for arm in outcome.arms}
        generation = outcome.report.as_json()
        print_json({"arms": arms, "caveat": outcome.caveat, "generation": generation, "page": str(outcome.page)})
        return
    print(
        f"Top-1 accuracy on {outcome.num_held_out} held-out digits after training on {outcome.num_training}, "
        f"mean and standard deviation over {seeds} seeds:"
    )
    heading = ["training", "coverage", "accuracy", "±"]
    print_table(
        [heading]
        + [[a.name, f"{a.coverage:.0%}", f"{100 * a.mean:.2f}", f"{100 * a.spread:.2f}"] for a in outcome.arms]
    )
    print(outcome.caveat)
    print(f"What was generated and what the filter discarded: {outcome.page}")
    print(f"What a training batch looks like: {outcome.sheet}")
    print(f"The accuracies of every run: {outcome.results}")
