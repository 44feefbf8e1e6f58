"""`diffcore pack`: a store from real images and a folder of generated ones."""

import re
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from diffcore_gpu.cli.console import print_json, print_table, printable, progress_bars, say
from diffcore_gpu.packing.options import Fit, Layout, PackOptions
from diffcore_gpu.packing.report import Effect, Finding, PackReport

_MAX_SIDE = 16384
_LISTED = 10  # findings of one kind that are printed; --json has all


def _parse_size(text: str) -> tuple[int, int]:
    """``256`` or ``224x192`` as (height, width)."""
    match = re.fullmatch(r"(\d{1,5})(?:[xX×](\d{1,5}))?", text.strip())
    if match:
        height, width = int(match[1]), int(match[2] or match[1])
        if 1 <= height <= _MAX_SIDE and 1 <= width <= _MAX_SIDE:
            return height, width
    raise typer.BadParameter(
        f"{text!r} is no size; give pixels as 256, or height x width as 224x192.", param_hint="--size"
    )


def pack(
    real: Annotated[Path, typer.Option(help="The real images: an ImageFolder, one folder per class.")],
    generated: Annotated[Path, typer.Option(help="The generated images, made by any tool.")],
    out: Annotated[Path, typer.Option(help="The store's folder.")],
    size: Annotated[str, typer.Option(help="Size of the store's images: 256, or height x width as 224x192.")],
    layout: Annotated[
        Layout,
        typer.Option(
            help="class: generated files lie in the real images' class folders and may serve every sample of the "
            "class. stem: a file named <stem of a real file>_anything serves that one. auto: stem where most files "
            "are named so."
        ),
    ] = Layout.AUTO,
    resize: Annotated[
        Fit, typer.Option(help="crop: cover the size and cut evenly. stretch: change the aspect ratio.")
    ] = Fit.CROP,
    strict: Annotated[bool, typer.Option("--strict", help="Fail where any file is skipped or converted.")] = False,
    check_real: Annotated[bool, typer.Option("--check-real", help="Also decode the real images and report.")] = False,
    max_per_sample: Annotated[
        int | None,
        typer.Option(min=1, help="Counterparts for each sample. Default: 16 in layout class, all in layout stem."),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Decoding threads. Default: one per processor.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the store that is there.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted pack stopped.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Make a store from real images and a folder of generated ones."""
    height, width = _parse_size(size)
    from diffcore_gpu.packing.pack import PackListener
    from diffcore_gpu.packing.pack import pack as run

    options = PackOptions(
        real=real,
        generated=generated,
        out=out,
        height=height,
        width=width,
        layout=layout,
        fit=resize,
        strict=strict,
        check_real=check_real,
        max_per_sample=max_per_sample,
        workers=workers,
        overwrite=overwrite,
        resume=resume,
    )
    try:
        with progress_bars() as bar:
            listener = PackListener(say=say, checked=bar("Checking", "real images"), packed=bar("Packing", "images"))
            report = run(options, listener)
    except KeyboardInterrupt:
        say("Interrupted. Run the same command with --resume to go on.")
        raise typer.Exit(130) from None
    if as_json:
        print_json({"store": str(out), **report.as_json()})
    else:
        _print_report(report, out)


def _print_report(report: PackReport, out: Path) -> None:
    counts = report.rows_per_class
    served = sum(rows > 0 for rows in counts.values())
    rate = f", {(report.rows - report.resumed_rows) / report.seconds:.0f} images/s" if report.seconds else ""
    print(printable(f"Packed {out}"))
    print_table(
        [
            ("samples", f"{report.samples} in {len(counts)} classes"),
            ("rows", f"{report.rows}" + (f" ({report.enlarged} enlarged)" if report.enlarged else "")),
            ("pairs", f"{report.pairs}"),
            ("coverage", f"{report.coverage:.1%}: {report.covered} of {report.samples} samples have a counterpart"),
            (
                "per class",
                f"{min(counts.values())} to {max(counts.values())} rows; {served} of {len(counts)} classes have any",
            ),
            ("skipped", f"{report.skipped_files}"),
            ("converted", f"{report.converted_files}"),
            ("time", f"{report.seconds:.1f} s{rate}"),
        ]
    )
    if report.unused_rows:
        print(f"{report.unused_rows} rows serve no sample: raise --max-per-sample to use them.")
    for effect in Effect:
        _print_findings(effect, [finding for finding in report.findings if finding.effect is effect])


_HEADINGS = {
    Effect.SKIPPED: "Skipped",
    Effect.CONVERTED: "Converted",
    Effect.CLASS: "Classes",
    Effect.REAL: "Real images that would trouble the training",
}


def _print_findings(effect: Effect, findings: list[Finding]) -> None:
    if not findings:
        return
    print(f"{_HEADINGS[effect]}:")
    shown: Counter[str] = Counter()
    for finding in findings:
        shown[finding.kind] += 1
        if shown[finding.kind] <= _LISTED:
            print(printable(f"  {finding}"))
    for kind, count in shown.items():
        if count > _LISTED:
            print(f"  … and {count - _LISTED} more: {kind} (--json lists all)")
