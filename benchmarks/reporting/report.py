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

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from diffcore_gpu.benchmarks.harness import options
from diffcore_gpu.benchmarks.reporting.collection import Loaded, collect
from diffcore_gpu.benchmarks.reporting.readme import update
from diffcore_gpu.benchmarks.reporting.suite_tables import tables_of
from diffcore_gpu.errors import BenchmarkError
from diffcore_gpu.store.durable import replace_file


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


def main(
    results: Annotated[list[Path], typer.Argument(metavar="RESULTS", help="JSON files, or folders of them.")],
    out: Annotated[Path | None, options.file("--out", "The HTML page to write.")] = None,
    plots: Annotated[Path | None, options.folder("--plots", "A folder for the plots as PNG files.")] = None,
    readme: Annotated[Path | None, options.file("--readme", "A README whose tables to rewrite.")] = None,
    check: Annotated[bool, options.flag("--check", "Change nothing; fail where the README's tables differ.")] = False,
) -> None:
    """Read everything, draw everything, then write."""
    _refuse(out, plots, readme, check)
    found, foreign = collect(results)
    files = {} if out is None and plots is None else draw(found, out, plots)
    if foreign:
        print(f"Left out, for no suite wrote them: {', '.join(map(str, foreign))}")
    if readme is not None:
        changed = update(readme, found, check=check)
        print(f"{readme}: {'its tables are drawn anew' if changed else 'its tables are those of the results'}.")
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)
        print(f"{path}: {len(content) / 1e3:.0f} kB")


def _refuse(out: Path | None, plots: Path | None, readme: Path | None, check: bool) -> None:
    """Refuse a command line that asks for nothing sensible."""
    if out is None and plots is None and readme is None:
        raise typer.BadParameter("nothing to write: give --out, --plots or --readme.")
    if check and (readme is None or out is not None or plots is not None):
        raise typer.BadParameter("--check goes with --readme alone.")
    for name, given in (("--out", out), ("--readme", readme)):
        if given is not None and given.is_dir():
            raise typer.BadParameter(f"{name} {given} is a folder; name a file.")
    if plots is not None and plots.exists() and not plots.is_dir():
        raise typer.BadParameter(f"--plots {plots} is a file; name a folder.")
