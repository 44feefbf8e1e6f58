"""Draws the README's tables from the committed results, and checks that they are the ones that stand there.

Each table lies between a line `<!-- results: NAME -->` and a line `<!-- end of results -->`.

    python benchmarks/readme_tables.py            # rewrite them
    python benchmarks/readme_tables.py --check    # exit code 1 where the README says something else
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from overhead import PAPER

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results"
_SECTION = re.compile(r"(<!-- results: (\w+) -->\n)(.*?)(<!-- end of results -->)", re.DOTALL)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows)]
    return "\n".join(lines) + "\n"


def where(environment: dict[str, Any]) -> str:
    """One sentence on what a result was measured with."""
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items() if version)
    device = environment["gpu"] or f"{environment['cpu']}, {environment['threads']} threads"
    return f"{device}; Python {environment['python']}, {versions}."


def results_named(name: str, results: Path) -> list[tuple[Path, dict[str, Any]]]:
    """The results of one benchmark from every device, by folder."""
    paths = sorted(results.glob(f"*/{name}.json"))
    return [(path, json.loads(path.read_text())) for path in paths]


def _fastest(times: dict[str, Any], inplace: bool) -> tuple[str, dict[str, Any]]:
    """The fastest peer; out of place, of those that return new images."""
    peers = {
        name: time
        for name, time in times.items()
        if not name.startswith("diffcore") and (inplace or "(in place)" not in name)
    }
    name = min(peers, key=lambda name: peers[name]["median_ms"])
    return name.removesuffix(" (in place)"), peers[name]


def _with_spread(time: dict[str, Any]) -> str:
    return f"{time['median_ms']:.2f} ({time['p10_ms']:.2f}–{time['p90_ms']:.2f})"


def peers_table(result: dict[str, Any]) -> str:
    """The default mix beside the fastest peer, out of place and in place."""
    rows = []
    for batch in result["batches"]:
        shape = f"{batch['batch']}×3×{batch['size']}×{batch['size']} {batch['dtype']}"
        for inplace in (False, True):
            ours = batch["times"]["diffcore default" + (" (in place)" if inplace else "")]
            name, peer = _fastest(batch["times"], inplace)
            how = "in place" if inplace else "new images"
            ratio = f"{ours['median_ms'] / peer['median_ms']:.2f}"
            rows.append((shape, how, _with_spread(ours), f"{name}: {_with_spread(peer)}", ratio))
    header = ("batch", "written", "diffcore-gpu, ms (p10–p90)", "fastest peer, ms (p10–p90)", "ratio")
    return markdown(header, rows)


def _overhead_table(result: dict[str, Any], steps: Callable[[dict[str, Any]], dict[str, Any]]) -> str:
    rows = []
    for batch in result["results"]:
        times = steps(batch)
        first = next(iter(times.values()))["median_ms"]
        rows += [
            (str(batch["batch"]), name, _with_spread(time), f"{time['median_ms'] / first - 1:+.1%}")
            for name, time in times.items()
        ]
    return markdown(("batch", "what", "step, ms (p10–p90)", "overhead"), rows)


def geometry_table(result: dict[str, Any]) -> str:
    """Training steps with each preprocessing, and their overhead over torchvision's."""
    return _overhead_table(result, lambda batch: batch["times"]["in a training step"])


def residency_table(result: dict[str, Any]) -> str:
    """Training steps with each residency, and their overhead over no mix."""
    return _overhead_table(result, lambda batch: batch["times"])


def overhead_table(result: dict[str, Any]) -> str:
    """A_O of every method with its interval, and the paper's beside it."""
    rows = []
    for found in result["results"]:
        column = {16: 0, 32: 1, 64: 2}.get(found["batch"])
        for name, part in found["overheads"].items():
            noise = " (noise)" if part["low"] <= 0 <= part["high"] else ""
            paper = f"{PAPER[name][column]:+.1f}" if name in PAPER and column is not None else "–"
            interval = f"{part['low']:+.1f} … {part['high']:+.1f}"
            rows.append((str(found["batch"]), name, f"{part['percent']:+.1f}{noise}", interval, paper))
        rows += [(str(found["batch"]), name, f"failed: {why}", "–", "–") for name, why in found["failed"].items()]
    return markdown(("batch", "method", "A_O, %", "95 %", "paper (GPU, ResNet-50), %"), rows)


def generation_table(result: dict[str, Any]) -> str:
    """Generation time and discards against the share of the samples that get counterparts (Figs. 7 and 8)."""
    rows = []
    for run in result["results"]:
        wall, generated = run["wall_seconds"], run["generated"]
        beside = run["seconds"]["filter"] + run["seconds"]["write"]
        rows.append(
            (
                f"{run['percent']} %",
                str(generated),
                f"{run['discarded'] / generated:.1%}",
                f"{wall:.1f}",
                f"{generated / wall:.1f}",
                f"{run['seconds']['denoiser'] / wall:.1%}",
                f"{beside / wall:.1%}",
                f"{run['seconds']['wait'] / wall:.1%}",
            )
        )
    header = (
        "augmented",
        "generated",
        "discarded",
        "seconds",
        "images/s",
        "denoiser",
        "filter and writer",
        "waited for",
    )
    return markdown(header, rows)


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "peers": peers_table,
    "geometry": geometry_table,
    "residency": residency_table,
    "overhead": overhead_table,
    "generation": generation_table,
}


def section(name: str, results: Path = RESULTS) -> str:
    """What stands between the two lines of a section: a table for each device, and where it comes from."""
    if name not in TABLES:
        sys.exit(f"The README asks for results of {name!r}; known are {', '.join(TABLES)}.")
    parts = []
    for path, result in results_named(name, results):
        command = result["environment"]["command"]
        source = f"benchmarks/results/{path.parent.name}/{path.name}"
        parts.append(f"{TABLES[name](result)}\n[{source}]({source}), `{command}`: {where(result['environment'])}\n")
    return "\n".join(parts)


def with_tables(text: str, results: Path = RESULTS) -> str:
    """The README with its tables drawn anew."""
    return _SECTION.sub(lambda match: f"{match[1]}{section(match[2], results)}{match[4]}", text)


def main() -> None:
    """Rewrite the tables, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 1 where tables differ")
    options = parser.parse_args()
    readme = ROOT / "README.md"
    text = readme.read_text()
    drawn = with_tables(text)
    if options.check:
        if drawn != text:
            sys.exit("README.md: its tables are not those of benchmarks/results; run benchmarks/readme_tables.py.")
    else:
        readme.write_text(drawn)


if __name__ == "__main__":
    main()
