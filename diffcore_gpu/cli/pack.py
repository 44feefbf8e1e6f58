"""`diffcore pack`: a store from real images and a folder of generated ones."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from diffcore_gpu.cli.console import print_json, print_table, printable, progress_bars, resumable, say
from diffcore_gpu.cli.options import AsJson, Codec, Out, Overwrite, Real, option, parse_codec, parse_size
from diffcore_gpu.generation.settings import DEFAULT_FILTER, FilterOptions
from diffcore_gpu.packing.findings import Effect, Finding, PackReport
from diffcore_gpu.packing.options import Content, Fit, Layout, PackOptions

_LISTED = 10  # findings of one kind that are printed; --json has all


class Filter(StrEnum):
    """What decides which generated images are kept."""

    CLIP = "clip"


def pack(
    real: Real,
    generated: Annotated[Path, typer.Option(help="The generated images, made by any tool.")],
    out: Out,
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
    codec: Codec = "raw",
    strict: Annotated[bool, typer.Option("--strict", help="Fail where any file is skipped or converted.")] = False,
    check_real: Annotated[bool, typer.Option("--check-real", help="Also decode the real images and report.")] = False,
    content: Annotated[
        Content,
        typer.Option(
            help="Of which real files size and digest are kept, by which verify and bind know them again. sample: of "
            "256, spread evenly. full: of all. --filter and --check-real read all, and keep all."
        ),
    ] = Content.SAMPLE,
    max_per_sample: Annotated[
        int | None,
        typer.Option(min=1, help="Counterparts for each sample. Default: 16 in layout class, all in layout stem."),
    ] = None,
    filter_: Annotated[
        Filter | None,
        option(
            "clip: pair an image only with samples that it resembles, as `generate` does: cosine similarity of "
            "CLIP embeddings above the mean of the class's real images. Where more than --max-per-sample pass, the "
            "most similar serve. Images that no sample accepts are left out.",
            "--filter",
        ),
    ] = None,
    filter_model: Annotated[
        str, typer.Option(help="Of --filter clip: a model of open_clip by name, or a folder with one.")
    ] = DEFAULT_FILTER,
    filter_weights: Annotated[
        str | None, option("Its weights: a tag of open_clip, or a .safetensors file. Default: openai.")
    ] = None,
    threshold: Annotated[
        float | None, option("One threshold for all classes, instead of measuring it.", min=-1, max=1)
    ] = None,
    device: Annotated[str, typer.Option(help="Where the filter's model runs: auto, cpu, cuda, …")] = "auto",
    workers: Annotated[int | None, typer.Option(min=1, help="Decoding threads. Default: one per processor.")] = None,
    overwrite: Overwrite = False,
    resume: Annotated[bool, option("Go on where an interrupted pack stopped.", "--resume")] = False,
    append: Annotated[
        bool,
        option(
            "Add the images that are new to the store that is there; those that it has are known again.", "--append"
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a store from real images and a folder of generated ones."""
    height, width = parse_size(size)
    if filter_ is None and (filter_weights is not None or threshold is not None or filter_model != DEFAULT_FILTER):
        raise typer.BadParameter("--filter-model, --filter-weights and --threshold go with --filter clip.")
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
        codec=parse_codec(codec),
        strict=strict,
        check_real=check_real,
        content=content,
        max_per_sample=max_per_sample,
        workers=workers,
        overwrite=overwrite,
        resume=resume,
        append=append,
    )
    with resumable(), progress_bars() as bar:
        listener = PackListener(
            say=say,
            checked=bar("Checking", "real images"),
            judged=bar("Judging", "images"),
            compared=bar("Comparing", "images"),
            packed=bar("Packing", "images"),
        )
        similarity = None
        if filter_ is not None:
            from diffcore_gpu.generation.filter import ClipSimilarity

            asked = FilterOptions(filter_model, filter_weights, threshold)
            similarity = ClipSimilarity(asked, out=out, device=device)
        report = run(options, listener, similarity)
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
            *_filtered(report),
            ("skipped", f"{report.skipped_files}"),
            ("converted", f"{report.converted_files}"),
            ("time", f"{report.seconds:.1f} s{rate}"),
        ]
    )
    if report.unused_rows:
        print(f"{report.unused_rows} rows serve no sample: raise --max-per-sample to use them.")
    for effect in Effect:
        _print_findings(effect, [finding for finding in report.findings if finding.effect is effect])


def _filtered(report: PackReport) -> list[tuple[str, str]]:
    """What the filter did, if there was one."""
    if report.discarded_files is None:
        return []
    judged = report.rows + report.discarded_files
    share = f" ({report.discarded_files / judged:.1%})" if judged else ""
    return [
        ("discarded", f"{report.discarded_files} of {judged} images{share} resemble no sample"),
        ("refused", f"{report.refused_pairs} pairs not above the threshold"),
    ]


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
