"""`diffcore demo`: the whole path on handwritten digits, in about a minute and without a download."""

from pathlib import Path
from typing import Annotated

import typer

from diffcore_gpu.cli.console import print_json, print_table, progress_bars, say


def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything that the demo makes.")] = Path("demo-output"),
    seeds: Annotated[int, typer.Option(min=1, help="Training runs of each kind.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print the accuracies as JSON.")] = False,
) -> None:
    """Pack, verify, look at and train with a small store of handwritten digits."""
    from diffcore_gpu.demo.run import run

    with progress_bars() as bar:
        outcome = run(out, seeds, say, bar("Training", "runs"))
    if as_json:
        print_json({arm.name: {"coverage": arm.coverage, "accuracies": arm.accuracies} for arm in outcome.arms})
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
    print(f"What a training batch looks like: {outcome.sheet}")
    print(f"The accuracies of every run: {outcome.results}")
