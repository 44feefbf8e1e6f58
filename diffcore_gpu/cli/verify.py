"""`diffcore verify`: read a whole store and check it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffcore_gpu.cli.console import print_json, printable, say, size_text
from diffcore_gpu.cli.options import AsJson, Store


def verify(
    store: Store,
    real: Annotated[
        Path | None, typer.Option(help="Also check that the store was made for this ImageFolder of real images.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read a whole store and check every byte and every pair."""
    from diffcore_gpu.store import CounterpartStore
    from diffcore_gpu.store.remote.location import is_url, shown_place

    opened = CounterpartStore.open(store)
    place = shown_place(store)
    files = opened.manifest.files
    size = sum(file.size for file in files)
    fetched = ", which are fetched where they are not here yet" if is_url(store) else ""
    say(f"Reading {size_text(size)} in {len(files)} files{fetched} …")
    opened.verify()
    if real is not None:
        from diffcore_gpu.packing.imagefolder import scan_image_folder

        scan = scan_image_folder(real)
        opened.bind(scan, labels=scan.labels, file_names=scan.file_names)
    if as_json:
        result = {
            "store": place,
            "intact": True,
            "rows": opened.num_rows,
            "pairs": opened.num_pairs,
            "bytes": size,
            "checksum": opened.checksum,
            "made_for": None if real is None else str(real),
        }
        print_json(result)
        return
    print(printable(f"{place}: intact; {opened.num_rows} rows, {opened.num_pairs} pairs, {size_text(size)} checked."))
    if real is not None:
        print(printable(f"It was made for {real}: {opened.num_samples} samples, the same labels and file names."))
