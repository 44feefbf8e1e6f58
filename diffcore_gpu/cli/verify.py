"""`diffcore verify`: read a whole store and check it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from diffcore_gpu.cli.console import print_json, printable, progress_bars, say, size_text
from diffcore_gpu.cli.options import AsJson, Store

if TYPE_CHECKING:
    from diffcore_gpu.store import CounterpartStore


class Content(StrEnum):
    """Of which real files the content is compared."""

    FULL = "full"
    SAMPLE = "sample"
    NONE = "none"


def verify(
    store: Store,
    real: Annotated[
        Path | None, typer.Option(help="Also check that the store was made for this ImageFolder of real images.")
    ] = None,
    content: Annotated[
        Content,
        typer.Option(
            help="With --real, of which files size and digest are compared, where the store knows them. full: of all. "
            "sample: of 256. none: only names and labels."
        ),
    ] = Content.FULL,
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
    compared = None if real is None else _compare(opened, real, content)
    if as_json:
        result = {
            "store": place,
            "intact": True,
            "rows": opened.num_rows,
            "pairs": opened.num_pairs,
            "bytes": size,
            "checksum": opened.checksum,
            "made_for": None if real is None else str(real),
            "compared_files": compared,
            "unknown_files": opened.num_samples - _known(opened),
        }
        print_json(result)
        return
    print(printable(f"{place}: intact; {opened.num_rows} rows, {opened.num_pairs} pairs, {size_text(size)} checked."))
    if real is not None:
        print(printable(f"It was made for {real}: {opened.num_samples} samples, the same labels and file names."))
        unknown = opened.num_samples - _known(opened)
        beyond = f"; it does not know what {unknown} held" if unknown else ""
        print(f"{compared} of the files were compared and hold what they held then{beyond}.")


def _known(store: CounterpartStore) -> int:
    """How many real files the store knows the content of."""
    return 0 if store.file_contents is None else len(store.file_contents.known)


def _compare(store: CounterpartStore, real: Path, content: Content) -> int:
    """Compare the store with an ImageFolder; how many files were read for that."""
    from diffcore_gpu.packing.imagefolder import scan_image_folder
    from diffcore_gpu.store.real_files import compare_content

    scan = scan_image_folder(real)
    store.bind(scan, labels=scan.labels, file_names=scan.file_names, content=None)
    if content is Content.NONE:
        return 0
    with progress_bars() as bar:
        which: Literal["sample", "full"] = "full" if content is Content.FULL else "sample"
        return compare_content(store, lambda sample: str(scan.path(sample)), which, bar("Comparing", "real images"))
