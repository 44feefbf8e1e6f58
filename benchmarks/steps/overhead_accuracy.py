"""Overhead against accuracy of every method: the paper's Fig. 4 with the overheads that were measured here.

Overheads are those of a result of `overhead` at one batch size. Accuracies are those of a result of `train` on your own
data: the mean over the seeds with its standard deviation; arms are matched with methods by name, and
`diffcore-mix-50` and `diffcore-mix-100` both have the overhead of `diffcore-mix`. With --paper-accuracies they are
those that the paper states for CUB with DenseNet-121, and plot, table and JSON file say so.

    diffcore bench overhead-accuracy --overhead overhead.json --train cub.json --split val --out trade-off.png
    diffcore bench overhead-accuracy --overhead overhead.json --paper-accuracies --out trade-off.png
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from diffcore_gpu.benchmarks import paper
from diffcore_gpu.benchmarks.harness import options
from diffcore_gpu.benchmarks.harness.command import output_of
from diffcore_gpu.benchmarks.harness.measure import deviation, table
from diffcore_gpu.benchmarks.harness.result_file import complete, new_result, read_result, write_result
from diffcore_gpu.benchmarks.paper import AGAIN, OURS, VANILLA
from diffcore_gpu.benchmarks.reporting.accuracy_tables import (
    Point,
    Reached,
    failures,
    reached,
    to_json,
    trade_off_tables,
)
from diffcore_gpu.benchmarks.steps.results import Overhead, at_batches
from diffcore_gpu.errors import BenchmarkError
from diffcore_gpu.store.durable import replace_file

PAPERS = "the paper's, CUB, DenseNet-121"
MEASURED = "measured"
OF_OURS = (f"{OURS}-50", f"{OURS}-100")
"""Arms of this library's method by the coverage of the store: their steps cost the same."""


NONE = Overhead(0.0, 0.0, 0.0, 1.0)
"""Vanilla's own, by definition."""


def overheads(result: dict[str, Any], path: Path, batch: int) -> tuple[dict[str, Overhead], dict[str, str]]:
    """The overhead of every method at a batch size, vanilla's 0 with them, and why the others have none.

    The intervals are corrected for the methods of this batch size, which are those that stand side by side.

    Raises:
        BenchmarkError: the result does not have that batch size, or no overhead there.
    """
    found = at_batches([part for part in result["results"] if part["batch"] == batch])
    if not found:
        known = ", ".join(map(str, sorted({part["batch"] for part in result["results"]}))) or "none yet"
        raise BenchmarkError(f"{path}: has no batch size {batch}; it has {known}. --batch picks one.")
    (at,) = found
    if not at.overheads:
        raise BenchmarkError(
            f"{path}: no method has an overhead at batch size {batch}; the vanilla steps failed there."
        )
    of_methods = {name: one for name, one in at.overheads.items() if name not in at.again}
    return {VANILLA: NONE, **of_methods}, {name: why for name, why in at.failed.items() if not name.startswith(AGAIN)}


def chosen(result: dict[str, Any], path: Path, variant: str | None, split: str | None) -> list[Reached]:
    """The accuracies of one variant on one split.

    Raises:
        BenchmarkError: there are several and none was named, or the named one is not there.
    """
    found = reached(result)
    if not found:
        raise BenchmarkError(f"{path}: no run of it has an accuracy.")
    for name, wanted in (("variant", variant), ("split", split)):
        there = list(dict.fromkeys(getattr(one, name) for one in found))
        if wanted is None and len(there) > 1:
            raise BenchmarkError(f"{path}: has the {name}s {', '.join(map(str, there))}; --{name} picks one.")
        if wanted is not None and wanted not in there:
            raise BenchmarkError(f"{path}: has no {name} {wanted}; it has {', '.join(map(str, there))}.")
        found = [one for one in found if wanted is None or getattr(one, name) == wanted]
    return found


def measured_points(found: Sequence[Reached], overhead: Mapping[str, Overhead]) -> list[Point]:
    """The arms whose method has an overhead."""
    return [
        Point(
            name=one.arm,
            method=method_of(one.arm),
            **_coordinates(overhead[method_of(one.arm)]),
            accuracy=statistics.fmean(one.top1),
            deviation=deviation(one.top1),
            seeds=len(one.top1),
        )
        for one in found
        if method_of(one.arm) in overhead
    ]


def _coordinates(overhead: Overhead) -> dict[str, float]:
    return {name: getattr(overhead, name) for name in ("percent", "low", "high")}


def papers_points(overhead: Mapping[str, Overhead]) -> list[Point]:
    """The methods of the paper that have an overhead, with the paper's accuracies."""
    return [
        Point(name=name, method=name, **_coordinates(overhead[name]), accuracy=accuracy, deviation=None, seeds=None)
        for name, accuracy in paper.CUB_ACCURACY.items()
        if name in overhead
    ]


def method_of(arm: str) -> str:
    """The method whose overhead an arm has."""
    return OURS if arm in OF_OURS else arm


def left_out(overhead: Mapping[str, Overhead], arms: Sequence[str], failed: dict[str, str]) -> dict[str, str]:
    """The methods and arms that have only one of the two figures, or failed and have none, and why.

    Args:
        overhead: of `overheads`.
        arms: with an accuracy.
        failed: why a method or arm has none of one of them.
    """
    accurate = {*arms, *map(method_of, arms)}
    costed = {*overhead, *(arm for arm in {*arms, *failed} if method_of(arm) in overhead)}
    found = {}
    for name in sorted({*overhead, *arms, *failed}):
        lacks = [f"no {what}" for what, has in (("overhead", costed), ("accuracy", accurate)) if name not in has]
        if lacks:
            found[name] = " and ".join(lacks) + (f", {failed[name]}" if name in failed else "")
    return found


def make_result(
    overhead_file: Path, train_file: Path | None, batch: int, variant: str | None, split: str | None, command: str
) -> dict[str, Any]:
    """Read both files and put them together.

    Args:
        overhead_file, train_file: the results; None: the paper's accuracies.
        batch: size, of the overheads.
        variant, split: of the accuracies, where there are several.
        command: that asks for it.

    Raises:
        BenchmarkError: one is not a result, lacks what was asked for, or the two have no method in common.
    """
    measured = read_result(overhead_file, "overhead")
    trained = None if train_file is None else read_result(train_file, "train")
    with complete(overhead_file, "overhead"):
        overhead, failures_of_steps = overheads(measured, overhead_file, batch)
        failed = {name: f"its steps failed: {why}" for name, why in failures_of_steps.items()}
        at_end = [part.get("clocks_at_end") for part in measured["results"] if part["batch"] == batch]
        environment = {**measured["environment"], "command": command}
    if trained is None or train_file is None:
        points, arms, source = papers_points(overhead), list(paper.CUB_ACCURACY), PAPERS
    else:
        with complete(train_file, "train"):
            found = chosen(trained, train_file, variant, split)
            points, arms, source = measured_points(found, overhead), [one.arm for one in found], MEASURED
            for run in failures(trained):
                if run["variant"] == found[0].variant:
                    failed.setdefault(run["arm"], f"its training failed: {run['failed']}")
            if not all(isinstance(name, str) for name in (*arms, *failed)):
                raise TypeError("the name of an arm is no text.")
    if not points:
        raise BenchmarkError(
            f"{overhead_file}: none of its methods ({', '.join(overhead)}) has an accuracy; those that have one are "
            f"{', '.join(arms)}."
        )
    setting = {
        "batch": batch,
        "accuracies": source,
        "variant": variant,
        "split": split,
        "overhead": _source(overhead_file, measured),
        "train": None if trained is None or train_file is None else _source(train_file, trained),
    }
    result = new_result("overhead-accuracy", environment, setting)
    result["left_out"] = left_out(overhead, arms, failed)
    result["results"] = [{**entry, "clocks_at_end": at_end[-1]} for entry in to_json(points, source)]
    return result


def _source(path: Path, result: dict[str, Any]) -> dict[str, str]:
    """What a result was read from, without the folders of this machine."""
    with complete(path, result["suite"]):
        return {"file": path.name, "command": str(result["environment"]["command"])}


def main(
    context: typer.Context,
    overhead: Annotated[Path, options.file("--overhead", "A result of `overhead`.")],
    out: Annotated[Path, options.option("--out", "The plot to write.", "FILE.png")],
    train: Annotated[Path | None, options.file("--train", "A result of `train`.")] = None,
    paper_accuracies: Annotated[bool, options.flag("--paper-accuracies", f"Take {PAPERS}.")] = False,
    variant: Annotated[
        str | None, options.option("--variant", "Of the recipe, where the result of `train` has several.", "NAME")
    ] = None,
    split: Annotated[
        str | None, options.option("--split", "Where it has several, such as val and test.", "NAME")
    ] = None,
    batch: Annotated[int, options.number("--batch", "Batch size of the overheads.")] = 16,
    json: options.Json = None,
) -> None:
    """Print the table and write the plot, and JSON if asked."""
    if (train is None) != paper_accuracies:
        raise typer.BadParameter("the accuracies come from --train or are --paper-accuracies: give one of the two.")
    if out.suffix.lower() != ".png" or out.is_dir():
        raise typer.BadParameter(f"--out {out} is not the name of a PNG file; let it end in .png.")
    if paper_accuracies and (variant is not None or split is not None):
        raise typer.BadParameter("--variant and --split go with --train.")
    from diffcore_gpu.benchmarks.reporting.plots import LIGHT
    from diffcore_gpu.benchmarks.reporting.suite_plots import trade_off_plots

    result = make_result(overhead, train, batch, variant, split, output_of(context, json).command)
    (plot,) = trade_off_plots(result)
    png = plot.png(LIGHT)
    out.parent.mkdir(parents=True, exist_ok=True)
    replace_file(out, png)
    if json is not None:
        write_result(json, result)
    (found,) = trade_off_tables(result)
    print(f"{found.title}; accuracies: {result['setting']['accuracies']}; overheads: measured here")
    print(table(found.header, found.rows))
    print(found.note)
