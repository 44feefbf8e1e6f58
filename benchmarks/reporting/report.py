"""One HTML page, plots and the README's tables from the results of any runs.

The page needs nothing else: tables with the spread beside each median and the paper's figures where it has them, plots,
and for every result its device, clocks, versions, command line and file. The same results give the same bytes.

    diffcore bench report results --out report.html --plots plots
    diffcore bench report benchmarks/results --readme README.md
    diffcore bench report benchmarks/results --readme README.md --check

Folders are searched with all folders below for what `--json` of the suites wrote; JSON files of other programs in them
are left out, and named. In a README, the lines between `<!-- results: NAME -->` and `<!-- end of results -->` are
replaced by the tables of every result that is called NAME.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from diffcore_gpu.benchmarks.harness.options import SuiteParser
from diffcore_gpu.benchmarks.reporting.collection import Loaded, collect
from diffcore_gpu.benchmarks.reporting.readme import update
from diffcore_gpu.benchmarks.reporting.suite_tables import tables_of
from diffcore_gpu.errors import BenchmarkError
from diffcore_gpu.store.durable import replace_file


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = SuiteParser("report", __doc__)
    parser.add_argument("results", type=Path, nargs="+", metavar="RESULTS", help="JSON files, or folders of them")
    parser.add_argument("--out", type=Path, default=None, metavar="FILE", help="the HTML page to write")
    parser.add_argument("--plots", type=Path, default=None, metavar="DIR", help="a folder for the plots as PNG files")
    parser.add_argument("--readme", type=Path, default=None, metavar="FILE", help="a README whose tables to rewrite")
    parser.add_argument("--check", action="store_true", help="change nothing; fail where the README's tables differ")
    options = parser.parse(arguments)
    if options.out is None and options.plots is None and options.readme is None:
        parser.error("nothing to write: give --out, --plots or --readme.")
    if options.check and (options.readme is None or options.out is not None or options.plots is not None):
        parser.error("--check goes with --readme alone.")
    for name, given in (("--out", options.out), ("--readme", options.readme)):
        if given is not None and given.is_dir():
            parser.error(f"{name} {given} is a folder; name a file.")
    if options.plots is not None and options.plots.exists() and not options.plots.is_dir():
        parser.error(f"--plots {options.plots} is a file; name a folder.")
    return options


def draw(results: Sequence[Loaded], out: Path | None, plots: Path | None) -> dict[Path, bytes]:
    """The files of a report, whole, before any is written.

    Args:
        results: of `collect`.
        out: the page; None: none.
        plots: folder of the plots; None: none.

    Raises:
        BenchmarkError: a result lacks a field.
    """
    from diffcore_gpu.benchmarks.reporting.page import Section, page  # needs matplotlib, unlike the README's tables
    from diffcore_gpu.benchmarks.reporting.suite_plots import pictures_of

    sections = [Section(loaded, tables_of(loaded), pictures_of(loaded)) for loaded in results]
    files: dict[Path, bytes] = {}
    if out is not None:
        files[out] = page(sections, out).encode()
    if plots is not None:
        for section in sections:
            stem = "-".join(Path(section.loaded.shown).with_suffix("").parts)
            for plot, light, _ in section.pictures:
                name = plots / f"{stem if plot.name == section.loaded.suite else f'{stem}-{plot.name}'}.png"
                if name in files:
                    raise BenchmarkError(f"{section.loaded.path}: another result's plot is called {name.name}, too.")
                files[name] = light
    return files


def main(arguments: Sequence[str] | None = None) -> None:
    """Read everything, draw everything, then write."""
    options = parse(arguments)
    results, foreign = collect(options.results)
    files = {} if options.out is None and options.plots is None else draw(results, options.out, options.plots)
    if foreign:
        print(f"Left out, for no suite wrote them: {', '.join(map(str, foreign))}")
    if options.readme is not None:
        changed = update(options.readme, results, check=options.check)
        print(f"{options.readme}: {'its tables are drawn anew' if changed else 'its tables are those of the results'}.")
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)
        print(f"{path}: {len(content) / 1e3:.0f} kB")
