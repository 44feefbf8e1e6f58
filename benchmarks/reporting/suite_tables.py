"""Tables of the transform alone and of what comes before a step, and which tables belong to which suite."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from diffcore_gpu.benchmarks.harness.measure import within_noise
from diffcore_gpu.benchmarks.harness.result_file import complete
from diffcore_gpu.benchmarks.ops.kernel_tiles import split
from diffcore_gpu.benchmarks.reporting.accuracy_tables import trade_off_tables, train_tables
from diffcore_gpu.benchmarks.reporting.collection import Loaded
from diffcore_gpu.benchmarks.reporting.step_tables import batch_time_tables, overhead_tables
from diffcore_gpu.benchmarks.reporting.tables import (
    FAILED,
    MISSING,
    NOISE,
    SPREAD,
    Table,
    generic_tables,
    make_table,
    samples_with_spread,
    shape_of,
    union,
    with_spread,
)

_IN_PLACE = " (in place)"


def peers_tables(result: dict[str, Any]) -> list[Table]:
    """The default mix beside the fastest peer, out of place and in place; then every comparison and every time."""
    parts = result["results"]
    summary = make_table(
        "The mix beside the fastest peer",
        ("batch", "written", f"diffcore-gpu, ms ({SPREAD})", f"fastest peer, ms ({SPREAD})", "ratio"),
        (_beside_fastest(part, in_place) for part in parts for in_place in (False, True)),
        text_columns=2,
        note="Ratio: ours over the peer's time; noise: each median lies within the other's spread.",
    )
    compared = make_table(
        "Every comparison",
        ("batch", "ours", "against", "the fastest is", "ours / fastest"),
        (
            (
                shape_of(part),
                row["ours"],
                row["against"],
                row["fastest"],
                f"{row['ratio']:.2f}{NOISE if row['within_noise'] else ''}",
            )
            for part in parts
            for row in part["comparisons"]
        ),
        text_columns=4,
        details=True,
    )
    times = make_table(
        "Every time",
        ("batch", "what", f"ms ({SPREAD})"),
        ((shape_of(part), name, with_spread(time)) for part in parts for name, time in part["times"].items()),
        text_columns=2,
        details=True,
    )
    return [summary, compared, times]


def _beside_fastest(part: dict[str, Any], in_place: bool) -> tuple[str, ...]:
    times = part["times"]
    ours = times["diffcore default" + _IN_PLACE * in_place]
    peers = [name for name in times if not name.startswith("diffcore") and (in_place or _IN_PLACE not in name)]
    how = "in place" if in_place else "new images"
    if not peers:
        return shape_of(part), how, with_spread(ours), MISSING, MISSING
    name = min(peers, key=lambda name: float(times[name]["median_ms"]))
    ratio = f"{ours['median_ms'] / times[name]['median_ms']:.2f}{NOISE if within_noise(ours, times[name]) else ''}"
    return shape_of(part), how, with_spread(ours), f"{name.removesuffix(_IN_PLACE)}: {with_spread(times[name])}", ratio


def bandwidth_tables(result: dict[str, Any]) -> list[Table]:
    """The share of the copies' rates and of the peak that each kind of mix reaches; then every rate."""
    parts = result["results"]
    mixes = [split(name) for name in union(part["cold_rates"] for part in parts) if "copy" not in name]
    kinds, tiles = (list(dict.fromkeys(values)) for values in zip(*mixes, strict=True)) if mixes else ([], [])
    shown = {"of_copy": "of copy", "of_large_copy": "of large copy", "of_peak": "of peak"}
    shares = make_table(
        "Share of the rate of a copy",
        (
            "batch",
            *(["tile"] if any(tiles) else []),
            *(f"{kind}, {share}" for share in shown.values() for kind in kinds),
        ),
        (
            (
                shape_of(part),
                *([tile] if any(tiles) else []),
                *(_share(part, f"{kind} {tile}".rstrip(), share) for share in shown for kind in kinds),
            )
            for part in parts
            for tile in tiles
        ),
        text_columns=2 if any(tiles) else 1,
        note="Bytes that must move over time, with no warm cache, over that of a device-to-device copy of the same "
        "batch, of one of 256 MiB, and over the peak of the GPU's memory by its data sheet.",
    )
    rates = make_table(
        "Every rate",
        ("batch", "what", f"µs ({SPREAD})", "GB/s", *shown.values()),
        (
            (
                shape_of(part),
                name,
                with_spread(part["times"][name], 1e3),
                f"{rate['gb_per_s']:.0f}",
                *(_share(part, name, share) for share in shown),
            )
            for part in parts
            for name, rate in part["cold_rates"].items()
        ),
        text_columns=2,
        details=True,
    )
    return [shares, rates]


def _share(part: dict[str, Any], name: str, share: str) -> str:
    value = part["cold_rates"].get(name, {}).get(share)
    return MISSING if value is None else f"{value:.2f}"


def geometry_tables(result: dict[str, Any]) -> list[Table]:
    """Each preprocessing alone and, where it was measured, in a training step, and its overhead over torchvision's."""
    rows = []
    for part in result["results"]:
        alone, steps = part["times"]["alone"], part["times"].get("in a training step", {})
        first = next(iter(alone))
        for name, time in alone.items():
            trained = (MISSING, MISSING)
            if steps:
                share = steps[name]["median_ms"] / steps[first]["median_ms"] - 1
                noise = NOISE if name != first and within_noise(steps[name], steps[first]) else ""
                trained = with_spread(steps[name]), f"{share:+.1%}{noise}"
            rows.append((f"{part['batch']} {part['dtype']}", name, with_spread(time), *trained))
    header = ("batch", "what", f"alone, ms ({SPREAD})", f"step, ms ({SPREAD})", "overhead")
    note = "Overhead: of the median step over the first one's; noise: each median lies within the other's spread."
    return [make_table("Preprocessing alone and in a training step", header, rows, text_columns=2, note=note)]


def residency_tables(result: dict[str, Any]) -> list[Table]:
    """Training steps with each residency, and their overhead over no mix."""
    rows = []
    for part in result["results"]:
        times = part["times"]
        none = times["none"]
        for name, time in times.items():
            pairs = zip(time["samples_ms"], none["samples_ms"], strict=True)
            noise = NOISE if name != "none" and within_noise(time, none) else ""
            share = f"{statistics.median(a / b - 1 for a, b in pairs):+.1%}{noise}"
            rows.append((str(part["batch"]), name, with_spread(time), share))
    header = ("batch", "what", f"step, ms ({SPREAD})", "overhead")
    note = "Overhead: the median over the rounds; noise: each median lies within the other's spread."
    return [make_table("Where the counterparts lie", header, rows, text_columns=2, note=note)]


def host_overhead_tables(result: dict[str, Any]) -> list[Table]:
    """What a call costs the host beside what a launch costs anyway; then the ratio of the two."""
    parts = result["results"]
    times = make_table(
        "Host time of one call",
        ("batch", "driver", "what", f"µs ({SPREAD})"),
        (
            (str(part["batch"]), part["driver"], name, with_spread(time, 1e3))
            for part in parts
            for name, time in part["times"].items()
        ),
        text_columns=3,
        note="Driver: that of the GPU, or one that stands in for it and launches nothing.",
    )
    ratio = make_table(
        "The call over a bare launch with five arguments",
        ("batch", "median", "quartiles"),
        (
            (
                str(part["batch"]),
                f"{part['call_over_bare_launch']['median']:.2f}",
                " to ".join(f"{value:.2f}" for value in part["call_over_bare_launch"]["quartiles"]),
            )
            for part in parts
        ),
    )
    return [times, ratio]


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
    """Opening a store of many rows, reading random rows of another, and checking rows as they are read."""
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
        elif part["what"].startswith("checking"):
            epochs = ((name, f"{ratio['median']:.3f}", f"{min(ratio['all']):.3f} – {max(ratio['all']):.3f}")
                      for name, ratio in part["ratios"].items())  # fmt: skip
            beside = " beside decoded images" if part["decoding"] else ""
            title = (
                f"{part['workers']} workers read {part['rows']} rows of 3×256×256{beside}: an epoch over a plain one"
            )
            tables.append(make_table(title, ("store", "median", "range"), epochs))
        else:
            times = part["times"].items()
            reading = ((name, with_spread(time), f"{time['gb_per_s']:.1f}") for name, time in times)
            title = f"Reading {part['batch']} random rows of 3×256×256, beside plain copies of as many bytes"
            tables.append(make_table(title, ("what", f"ms ({SPREAD})", "GB/s"), reading))
            speed = ((name, f"{ratio:.2f}") for name, ratio in part["speed"].items())
            tables.append(make_table("Speed of reading over that of a copy", ("speed", "ratio"), speed))
    return tables


def codecs_tables(result: dict[str, Any]) -> list[Table]:
    """Bytes and error of each codec, rows per second of stores, and images per second of loaders."""
    sizes = [part for part in result["results"] if part["what"] == "size"]
    tables = []
    if sizes:
        header = ("codec", "of the raw bytes", "mean error", "largest error", "encoded/s", "decoded/s")
        rows = [
            (
                part["codec"],
                f"{part['share']:.3f}",
                f"{part['mean_error']:.2f}",
                str(part["largest_error"]),
                f"{part['encoded_per_second']:,.0f}",
                f"{part['decoded_per_second']:,.0f}",
            )
            for part in sizes
        ]
        note = "Errors in levels of 255; images per second of one thread."
        tables.append(make_table("Codecs", header, rows, note=note))
    for part in result["results"]:
        if part["what"] == "size":
            continue
        if part["what"] == "store":
            where = (
                "the system's cache" if part["mb_per_s"] is None else f"an imitated storage of {part['mb_per_s']} MB/s"
            )
            title, unit = f"Stores read from {where}", "rows/s"
        else:
            title, unit = f"Loaders with {part['workers']} workers", "images/s"
        columns = ("from", f"{unit} ({SPREAD})", f"CPU µs each ({SPREAD})", "of the first (interval)")
        arms = [
            (
                name,
                samples_with_spread(arm["per_second"], places=0),
                samples_with_spread(arm["cpu_us"], places=0),
                "{median:.2f} ({low:.2f}–{high:.2f})".format(**arm["ratio"]),
            )
            for name, arm in part["arms"].items()
        ]
        tables.append(make_table(title, columns, arms))
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


TABLES: dict[str, Callable[[dict[str, Any]], list[Table]]] = {
    "overhead": overhead_tables,
    "batch-time": batch_time_tables,
    "overhead-accuracy": trade_off_tables,
    "batch-gallery": gallery_tables,
    "loader": loader_tables,
    "train": train_tables,
    "peers": peers_tables,
    "bandwidth": bandwidth_tables,
    "host-overhead": host_overhead_tables,
    "geometry": geometry_tables,
    "residency": residency_tables,
    "generation": generation_tables,
    "store-access": store_access_tables,
    "codecs": codecs_tables,
}
"""Any other suite has `generic_tables`."""


def tables_of(loaded: Loaded) -> list[Table]:
    """The tables of a result.

    Raises:
        BenchmarkError: it lacks a field.
    """
    with complete(loaded.path, loaded.suite):
        return TABLES.get(loaded.suite, generic_tables)(loaded.result)
