"""`diffcore push`: put a store where others can open it."""

from __future__ import annotations

from typing import Annotated

import typer

from diffcore_gpu.cli.console import print_json, print_table, printable, progress_bars, size_text
from diffcore_gpu.cli.options import AsJson, Overwrite, Store


def push(
    store: Store,
    url: Annotated[
        str, typer.Argument(metavar="URL", help="Where it goes: s3://bucket/store, gs://…, hf://datasets/OWNER/NAME.")
    ],
    overwrite: Overwrite = False,
    card: Annotated[bool, typer.Option(help="Also write a card, README.md, and a picture of counterparts.")] = True,
    as_json: AsJson = False,
) -> None:
    """Put a store behind a URL, from where it can be opened."""
    from diffcore_gpu.store.remote.push import push as run

    with progress_bars() as bar:
        sending = bar("Sending", "MiB")
        report = run(
            store,
            url,
            overwrite=overwrite,
            with_card=card,
            progress=lambda done, total: sending(done >> 20, total >> 20),
        )
    if as_json:
        print_json(
            {
                "url": report.url,
                "sent": list(report.sent),
                "present": list(report.present),
                "sent_bytes": report.sent_bytes,
                "superseded": list(report.superseded),
            }
        )
        return
    print(printable(f"Pushed {report.url}"))
    print_table(
        [
            ("sent", f"{size_text(report.sent_bytes)} in {len(report.sent)} files"),
            ("there already", f"{len(report.present)} files"),
        ]
    )
    if report.superseded:
        print(
            f"{len(report.superseded)} files of the store before it are still there, for whoever has it open; remove "
            "them when nobody has (--json names them)."
        )
