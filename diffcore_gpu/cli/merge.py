"""`diffcore merge`: one store of several that were made for the same dataset in parts."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from diffcore_gpu.cli.console import print_json, print_table, printable
from diffcore_gpu.cli.options import AsJson


def merge(
    out: Annotated[str, typer.Argument(metavar="OUT", help="The new store's folder.")],
    stores: Annotated[list[str], typer.Argument(metavar="STORE...", help="The stores, made for the same dataset.")],
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy every shard. Default: hard links where the file system allows them.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make one store of several that were made for the same dataset in parts."""
    if len(stores) < 2:
        raise typer.BadParameter("give at least two stores after OUT.", param_hint="STORE")
    from diffcore_gpu.store.growth import merge as run

    report = run(out, stores, link=not copy)
    if as_json:
        print_json({"store": str(out), **asdict(report)})
        return
    print(printable(f"Merged {report.stores} stores into {out}"))
    print_table(
        [
            ("rows", f"{report.rows}; {report.duplicate_rows} that several stores have are kept once"),
            ("pairs", f"{report.pairs}; {report.duplicate_pairs} likewise"),
            ("covered", f"{report.covered} samples have a counterpart"),
            (
                "shards",
                f"{report.linked_shards} linked, {report.copied_shards} copied, {report.rewritten_shards} rewritten",
            ),
        ]
    )
