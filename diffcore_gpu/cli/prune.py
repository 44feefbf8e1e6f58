"""`diffcore prune`: take pairs out of a store, and rows that serve no sample any more."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from diffcore_gpu.cli.console import print_json, print_table, printable
from diffcore_gpu.cli.options import AsJson, Store, option


def prune(
    store: Store,
    rows: Annotated[
        Path | None, option("Take out every pair of these rows: a file with a row number on each line; - for stdin.")
    ] = None,
    pairs: Annotated[
        Path | None, option("Take out these pairs: a file with a sample and a row on each line; - for stdin.")
    ] = None,
    class_: Annotated[
        list[str] | None, option("Take out every pair of this class. May be given several times.", "--class")
    ] = None,
    below: Annotated[float | None, option("Take out pairs whose similarity is less than this.")] = None,
    lowest: Annotated[
        float | None, option("Take out this share of the measured pairs, the least similar first.", min=0, max=1)
    ] = None,
    best: Annotated[int | None, option("Then keep of each sample only so many, the most similar.", min=1)] = None,
    compact: Annotated[
        bool,
        typer.Option(
            "--compact", help="Also take out the rows that serve no sample, with their images; readers must open anew."
        ),
    ] = False,
    expect: Annotated[
        str | None, option("Do this to the store with this checksum alone, as `inspect --json` prints it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Take pairs out of a store: by number, by class, or by similarity."""
    if rows is None and pairs is None and not class_ and below is lowest is best is None and not compact:
        raise typer.BadParameter("say what to prune.", param_hint="--rows, --pairs, --class, --below, --lowest, --best")
    if rows is not None and pairs is not None and str(rows) == str(pairs) == "-":
        raise typer.BadParameter("only one of --rows and --pairs can be stdin.", param_hint="--pairs")
    row_numbers = None if rows is None else [numbers[0] for numbers in _numbers(rows, 1, "--rows")]
    pair_numbers = None if pairs is None else [(pair[0], pair[1]) for pair in _numbers(pairs, 2, "--pairs")]
    from diffcore_gpu.store.growth import prune as run

    report = run(
        store,
        rows=row_numbers,
        pairs=pair_numbers,
        classes=class_,
        below=below,
        lowest=lowest,
        best=best,
        compact=compact,
        expect=expect,
    )
    if as_json:
        print_json({"store": str(store), **asdict(report)})
        return
    print(printable(f"Pruned {store}"))
    print_table(
        [
            ("pairs", f"{report.pairs}; {report.removed_pairs} taken out"),
            ("rows", f"{report.rows}; {report.removed_rows} taken out"),
            ("covered", f"{report.covered} samples have a counterpart; {report.uncovered} have none any more"),
        ]
    )
    if report.unused_rows:
        print(f"{report.unused_rows} rows serve no sample: --compact takes them out.")


def _numbers(path: Path, each: int, name: str) -> list[list[int]]:
    """The lines of a file, or of stdin, as so many numbers each; empty lines are skipped."""
    if str(path) == "-":
        text = sys.stdin.read()
    else:
        from diffcore_gpu.documents import read_regular, why

        try:
            text = read_regular(path).decode("utf-8")
        except (OSError, ValueError) as error:
            raise typer.BadParameter(f"{path}: {why(error)}.", param_hint=name) from error
    numbers = []
    for line, words in enumerate((line.split() for line in text.splitlines()), 1):
        if not words:
            continue
        if len(words) != each or not all(word.isascii() and word.isdigit() and len(word) < 19 for word in words):
            what = "a row number" if each == 1 else "a sample and a row"
            raise typer.BadParameter(f"{path}: line {line} is not {what}.", param_hint=name)
        numbers.append([int(word) for word in words])
    return numbers
