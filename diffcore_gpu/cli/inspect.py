"""`diffcore inspect`: what a store holds, and a contact sheet of it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diffcore_gpu.cli.console import print_json, print_table, printable, say, size_text
from diffcore_gpu.cli.options import AsJson, Store, option

if TYPE_CHECKING:
    from diffcore_gpu.store import CounterpartStore

_LISTED = 40  # lines of a table that are printed; --json has all
_BAR = 30


def inspect(
    store: Store,
    real: Annotated[
        Path | None, typer.Option(help="The ImageFolder that the store was made for; writes a contact sheet.")
    ] = None,
    out: Annotated[Path | None, option("The contact sheet, a PNG. Default: contact_sheet.png.")] = None,
    samples: Annotated[int, typer.Option(min=1, max=100, help="Lines of the contact sheet.")] = 6,
    seed: Annotated[int, typer.Option(help="Which samples and mixes the contact sheet shows.", min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """Print what a store holds; with --real also draw a contact sheet."""
    if out is not None and real is None:
        raise typer.BadParameter("a contact sheet needs the real images: give --real too.", param_hint="--out")
    if out is not None and out.suffix.lower() != ".png":
        raise typer.BadParameter(f"{str(out)!r} does not end in .png.", param_hint="--out")
    from diffcore_gpu.cli.store_summary import summarize
    from diffcore_gpu.store import CounterpartStore

    opened = CounterpartStore.open(store)
    summary = summarize(opened)
    if real is not None:
        out = out or Path("contact_sheet.png")
        _write_sheet(opened, real, out, samples, seed)
        summary["contact_sheet"] = str(out)
    if as_json:
        print_json(summary)
    else:
        _print(summary)


def _write_sheet(store: CounterpartStore, folder: Path, out: Path, count: int, seed: int) -> None:
    import torch

    from diffcore_gpu.contact_sheet import choose_samples, contact_sheet
    from diffcore_gpu.packing import Fit, PackError
    from diffcore_gpu.packing.colour import ImageProblemError
    from diffcore_gpu.packing.decode import decode, pillow_ready
    from diffcore_gpu.packing.imagefolder import scan_image_folder
    from diffcore_gpu.store.durable import replace_file

    if not out.absolute().parent.is_dir():
        raise PackError(f"{out.parent} is no folder to write the contact sheet into; make it first.")
    scan = scan_image_folder(folder)
    store.bind(scan, labels=scan.labels, file_names=scan.file_names, content=None)
    fit = Fit.STRETCH if store.metadata.get("resize") == "stretch" else Fit.CROP
    images: dict[int, torch.Tensor] = {}
    with pillow_ready():
        for sample in choose_samples(store, count, seed):
            try:
                decoded = decode(scan.path(sample), store.image_shape[1], store.image_shape[2], fit)
            except ImageProblemError as problem:
                say(f"{scan.files[sample].name} is not on the contact sheet: {problem}.")
                continue
            pixels = torch.from_numpy(decoded.pixels)
            images[sample] = pixels if store.image_shape[0] == 3 else pixels[: store.image_shape[0]]
    if not images:
        raise PackError(f"No sample of {store.path} has both a counterpart and a readable real image to show.")
    data = io.BytesIO()
    contact_sheet(store, list(images), images.__getitem__, seed=seed).save(data, format="PNG", optimize=True)
    replace_file(out, data.getvalue())


def _print(summary: dict[str, Any]) -> None:
    print(printable(f"Store {summary['store']}"))
    per_sample = summary["rows_per_sample"]
    print_table(
        [
            ("format", f"version {summary['version']}, read by {summary['reading']}"),
            ("images", "{} x {} x {} uint8".format(*summary["image_shape"])),
            ("samples", f"{summary['samples']} in {len(summary['classes'])} classes; {_known(summary)}"),
            ("rows", str(summary["rows"])),
            ("pairs", f"{summary['pairs']}; {per_sample['min']} to {per_sample['max']} for a sample that has any"),
            ("coverage", f"{summary['coverage']:.1%} of the samples have a counterpart"),
            ("size", f"{size_text(sum(file['bytes'] for file in summary['files']))} in {len(summary['files'])} files"),
        ]
    )
    print("Made")
    print_table(_flat(summary["metadata"]) or [("nothing is known", "")])
    if summary["history"]:
        print("Changed since")
        print_table([(str(entry.get("operation")), _counts(entry)) for entry in summary["history"][-_LISTED:]])
    _print_listed(
        "Classes",
        ("class", "samples", "covered", "rows"),
        [(c["name"], str(c["samples"]), str(c["covered"]), str(c["rows"])) for c in summary["classes"]],
    )
    if summary["similarity"] is not None:
        _print_similarity(summary["similarity"])
    if summary["prompts"]:
        _print_listed("Prompts", ("rows", "prompt"), [(str(p["rows"]), p["text"]) for p in summary["prompts"]])
    _print_listed(
        "Files",
        ("file", "rows", "size", "codec", "decoder"),
        [
            (f["name"], _or_dash(f["rows"]), size_text(f["bytes"]), _or_dash(f["codec"]), _or_dash(f["decoder"]))
            for f in summary["files"]
        ],
    )
    if "contact_sheet" in summary:
        print(printable(f"Contact sheet {summary['contact_sheet']}"))


def _or_dash(value: object) -> str:
    return "–" if value is None else str(value)


def _counts(entry: Mapping[str, Any]) -> str:
    """What an operation did to the numbers of rows and pairs, as far as it says."""
    counts = [(name, entry.get(name)) for name in ("rows", "pairs", "samples")]
    return "; ".join(f"{name} {c[0]} to {c[1]}" for name, c in counts if isinstance(c, list) and len(c) == 2)


def _known(summary: dict[str, Any]) -> str:
    known, samples = summary["known_files"], summary["samples"]
    if known == samples:
        return "the content of every file is known"
    return f"the content of {known} files is known" if known else "the content of no file is known"


def _print_listed(title: str, heading: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    print(title)
    print_table([heading, *rows[:_LISTED]])
    if len(rows) > _LISTED:
        print(f"  … and {len(rows) - _LISTED} more (--json lists all)")


def _print_similarity(similarity: dict[str, Any]) -> None:
    print(f"Similarity of {similarity['measured']} measured pairs")
    print_table([tuple(similarity["quantiles"]), tuple(f"{v:.3f}" for v in similarity["quantiles"].values())])
    most = max(bar["pairs"] for bar in similarity["histogram"])
    for bar in similarity["histogram"]:
        drawn = "#" * round(_BAR * bar["pairs"] / most)
        print(f"  {bar['low']:6.3f} to {bar['high']:6.3f}  {drawn:{_BAR}}  {bar['pairs']}")


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested metadata as lines of (dotted key, value); what is empty says nothing and is left out."""
    lines: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, dict):
            lines += _flat(value, f"{prefix}{key}.")
        else:
            lines.append((prefix + key, "not given" if value is None else str(value)))
    return lines
