"""Tables of what comes before a step: generation (Figs. 7, 8), the store's files, the loader, a batch's labels."""

from __future__ import annotations

import statistics
from typing import Any

from diffcore_gpu.benchmarks.reporting.generic_table import generic_tables
from diffcore_gpu.benchmarks.reporting.tables import (
    FAILED,
    MISSING,
    SPREAD,
    Table,
    make_table,
    samples_with_spread,
    with_spread,
)


def generation_tables(result: dict[str, Any]) -> list[Table]:
    """Generation time and discards against the share of the samples that get counterparts."""
    filters = has_filter(result)
    rows = []
    for part in result["results"]:
        wall, generated, seconds = part["wall_seconds"], part["generated"], part["seconds"]
        beside = seconds["filter"] + seconds["write"]
        shares = [seconds["denoiser"] / wall, beside / wall, seconds["wait"] / wall]
        discarded = f"{part['discarded'] / generated:.1%}" if filters and generated else MISSING
        figures = [f"{part['percent']} %", str(generated), discarded, f"{wall:.1f}", f"{generated / wall:.1f}"]
        rows.append([*figures, *(f"{share:.1%}" for share in shares)])
    header = ["augmented", "generated", "discarded", "seconds", "images/s", "denoiser", "filter and writer"]
    note = (
        "τ is the mean similarity of pairs of real images, so about half of those pairs lie below it too. The paper's "
        "10.1 to 11.1 % on CUB and about 15 % on Cars (Figs. 7 and 8) are no yardstick: the code that its authors "
        "published compares with the first image of the class, at a constant 0.6."
    )
    if not filters:
        note = "Random weights: the time is that of the real model, and nothing is discarded."
    return [make_table("Generation", [*header, "waited for"], rows, note=note)]


def has_filter(result: dict[str, Any]) -> bool:
    """Whether a run of `generation` had trained models, so that discards mean something."""
    weights: str = result["setting"]["weights"]
    return weights == "trained"


def store_access_tables(result: dict[str, Any]) -> list[Table]:
    """Opening a store of many rows, and reading random rows of another."""
    tables = []
    for part in result["results"]:
        if part["what"] == "opening":
            rows = [
                ("open, ms", with_spread(part["open"])),
                ("memory after opening, MB", f"+{part['extra_resident_mb']:.1f}"),
                ("write, s", f"{part['write_seconds']:.1f}"),
                ("verify, s", f"{part['verify_seconds']:.1f}"),
            ]
            tables.append(make_table(f"A store of {part['rows']:,} rows of 3×32×32", ("what", SPREAD), rows))
        else:
            times = part["times"].items()
            reading = ((name, with_spread(time), f"{time['gb_per_s']:.1f}") for name, time in times)
            title = f"Reading {part['batch']} random rows of 3×256×256, beside plain copies of as many bytes"
            tables.append(make_table(title, ("what", f"ms ({SPREAD})", "GB/s"), reading))
            speed = ((name, f"{ratio:.2f}") for name, ratio in part["speed"].items())
            tables.append(make_table("Speed of reading over that of a copy", ("speed", "ratio"), speed))
    return tables


def loader_tables(result: dict[str, Any]) -> list[Table]:
    """Images per second and CPU time of an image, from a store and from files; then the bytes on disk."""
    rows, sizes = [], []
    for part in result["results"]:
        arms = part["arms"]
        floor = statistics.median(next(iter(arms.values()))["images_per_second"])
        for name, arm in arms.items():
            rows.append(
                (
                    str(part["workers"]),
                    name,
                    samples_with_spread(arm["images_per_second"], places=1),
                    f"{statistics.median(arm['images_per_second']) / floor:.2f}",
                    samples_with_spread(arm["cpu_seconds_per_image"], 1e3),
                )
            )
        sizes += [(str(part["workers"]), what, f"{count / 1e6:,.1f}") for what, count in part["bytes"].items()]
    speed = make_table(
        "Loading and mixing",
        ("workers", "from", f"images/s ({SPREAD})", "of the first", f"CPU ms per image ({SPREAD})"),
        rows,
        text_columns=2,
        note="CPU time is that of the process and of its workers.",
    )
    return [speed, make_table("Bytes on disk", ("workers", "what", "MB"), sizes, text_columns=2, details=True)]


def gallery_tables(result: dict[str, Any]) -> list[Table]:
    """The labels that every method gives to the images of one batch; then all figures."""
    labels = result["setting"]["labels"]
    rows = []
    for part in result["results"]:
        targets = [_weights(weights) for weights in part.get("targets", ())]
        blank = FAILED if "failed" in part else MISSING
        rows.append([part["method"], *(targets[i] if i < len(targets) else blank for i in range(len(labels)))])
    failed = "".join(
        f" {part['method']} failed: {part['failed'].rstrip('.')}." for part in result["results"] if "failed" in part
    )
    title = "Labels of a batch"
    note = f"Above: the label of the real image.{failed}"
    return [make_table(title, ["method", *labels], rows, note=note), *generic_tables(result, details=True)]


def _weights(weights: dict[str, float]) -> str:
    """Labels with their weights, the heaviest first; one label alone has all the weight."""
    sorted_weights = sorted(weights.items(), key=lambda item: (-item[1], item[0]))
    if len(sorted_weights) == 1 and sorted_weights[0][1] == 1:
        return sorted_weights[0][0]
    return ", ".join(f"{label} {weight:.2f}" for label, weight in sorted_weights)
