"""`diffcore rebind`: bind a store to a folder of images that has changed since it was made."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from diffcore_gpu.cli.console import print_json, print_table, printable, progress_bars
from diffcore_gpu.cli.options import AsJson, Real, Store

if TYPE_CHECKING:
    from diffcore_gpu.packing.imagefolder import ImageFolderScan
    from diffcore_gpu.store.growth import RebindReport

_LISTED = 5  # names of one kind that are printed; --json has all


class Changed(StrEnum):
    """What is done about samples whose file holds something else."""

    REFUSE = "refuse"
    DROP = "drop"
    KEEP = "keep"


class Ambiguous(StrEnum):
    """What is done about samples of equal content."""

    REFUSE = "refuse"
    DROP = "drop"


def rebind(
    store: Store,
    real: Real,
    changed: Annotated[
        Changed,
        typer.Option(help="Samples whose file holds something else now: refuse them, or drop or keep their pairs."),
    ] = Changed.REFUSE,
    ambiguous: Annotated[
        Ambiguous,
        typer.Option(help="Renamed files of which several hold the same: refuse them, or drop their pairs."),
    ] = Ambiguous.REFUSE,
    as_json: AsJson = False,
) -> None:
    """Bind a store to real images that were added, removed, renamed or moved since it was made."""
    from diffcore_gpu.packing.imagefolder import scan_image_folder
    from diffcore_gpu.store import CounterpartStore
    from diffcore_gpu.store.growth import contents_of
    from diffcore_gpu.store.growth import rebind as run

    scan = scan_image_folder(real)
    contents = None
    if CounterpartStore.open(store).file_contents is not None:
        with progress_bars() as bar:
            paths = [scan.path(sample) for sample in range(len(scan))]
            contents = contents_of(paths, bar("Reading", "real images"))
    report = run(
        store,
        scan,
        class_names=scan.class_names,
        labels=scan.labels,
        file_names=scan.file_names,
        file_contents=contents,
        changed=changed.value,
        ambiguous=ambiguous.value,
    )
    if as_json:
        print_json({"store": str(store), "real": str(real), **asdict(report)})
    else:
        _print(report, scan, f"Bound {store} to {real}")


def _print(report: RebindReport, scan: ImageFolderScan, heading: str) -> None:
    def named(samples: list[int]) -> str:
        names = ", ".join(scan.files[sample].name for sample in samples[:_LISTED])
        more = f", … ({len(samples)} in all)" if len(samples) > _LISTED else ""
        return f"{len(samples)}: {names}{more}" if samples else "0"

    print(printable(heading))
    print_table(
        [
            ("samples", f"{report.samples}, of which {report.same} have the name that they had"),
            ("renamed", named([new for _, new in report.renamed])),
            ("gained", named(report.gained)),
            ("lost", str(len(report.lost))),
            ("changed", named([new for _, new in report.changed])),
            ("ambiguous", named([new for _, news in report.ambiguous for new in news])),
            ("moved", named([new for _, new in report.moved])),
            ("pairs", f"{report.pairs}; {report.removed_pairs} are gone"),
        ]
    )
    for old, new in report.renamed_classes.items():
        print(printable(f"Class {old} is {new} now."))
    for what, names in (("New", report.gained_classes), ("Lost", report.lost_classes)):
        if names:
            print(printable(f"{what} classes: {', '.join(names)}."))
    if report.unused_rows:
        print(f"{report.unused_rows} rows serve no sample any more: `diffcore prune --compact` takes them out.")
