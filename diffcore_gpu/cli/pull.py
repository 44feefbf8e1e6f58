"""`diffcore pull`: bring a remote store into a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffcore_gpu.cli.console import print_json, print_table, printable, progress_bars, size_text
from diffcore_gpu.cli.options import AsJson, Overwrite


def pull(
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL", help="The store: s3://bucket/store, gs://…, https://…, hf://datasets/OWNER/NAME."
        ),
    ],
    store: Annotated[Path, typer.Argument(metavar="STORE", help="The folder that it goes into.")],
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Bring a remote store into a folder, verified; again after a break, it goes on."""
    from diffcore_gpu.store.remote.pull import pull as run

    with progress_bars() as bar:
        fetching = bar("Fetching", "MiB")
        report = run(url, store, overwrite=overwrite, progress=lambda done, total: fetching(done >> 20, total >> 20))
    if as_json:
        print_json(
            {
                "store": str(store),
                "fetched": list(report.fetched),
                "present": list(report.present),
                "fetched_bytes": report.fetched_bytes,
            }
        )
        return
    print(printable(f"Pulled {store}"))
    print_table(
        [
            ("fetched", f"{size_text(report.fetched_bytes)} in {len(report.fetched)} files"),
            ("there already", f"{len(report.present)} files"),
        ]
    )
