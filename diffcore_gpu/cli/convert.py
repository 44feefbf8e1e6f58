"""`diffcore convert`: a store of version 1 in the newest version, or one whose images are kept by another codec."""

from __future__ import annotations

from typing import Annotated

import typer

from diffcore_gpu.cli.console import print_json, printable, progress_bars, size_text
from diffcore_gpu.cli.options import AsJson, Codec, parse_codec


def convert(
    store: Annotated[str, typer.Argument(metavar="IN", help="The store's folder, or its URL.")],
    out: Annotated[str, typer.Argument(metavar="OUT", help="The new store's folder.")],
    codec: Codec = "raw",
    as_json: AsJson = False,
) -> None:
    """Write a store again in the newest version of the format; interrupted, the same command goes on."""
    from diffcore_gpu.store.growth import convert as run

    codec = parse_codec(codec)
    with progress_bars() as bar:
        made = run(store, out, codec=codec, progress=bar("Converting", "rows"))
    size = sum(file.size for file in made.manifest.files)
    if as_json:
        result = {
            "store": str(out),
            "from": str(store),
            "version": made.manifest.version,
            "codec": codec,
            "rows": made.num_rows,
            "pairs": made.num_pairs,
            "bytes": size,
            "checksum": made.checksum,
        }
        print_json(result)
        return
    print(printable(f"Converted {store} to {out}: {made.num_rows} rows, {made.num_pairs} pairs, {size_text(size)}."))
