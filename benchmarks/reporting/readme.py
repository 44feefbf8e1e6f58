"""The tables of a README, drawn from results between a line that names them and a line that ends them.

    <!-- results: overhead -->
    …
    <!-- end of results -->

The name is that of the result files without `.json`. There is a table for each device that has such a file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from diffcore_gpu.benchmarks.harness.result_file import complete
from diffcore_gpu.benchmarks.reporting.collection import Loaded
from diffcore_gpu.benchmarks.reporting.provenance import where
from diffcore_gpu.benchmarks.reporting.suite_tables import tables_of
from diffcore_gpu.benchmarks.reporting.tables import markdown_code, markdown_table, markdown_text
from diffcore_gpu.documents import read_regular, resolved, why
from diffcore_gpu.errors import BenchmarkError, nearest
from diffcore_gpu.store.durable import replace_file

_START = re.compile(r"^<!-- results: (\S+) -->\n", re.MULTILINE)
_END = "<!-- end of results -->"


def with_tables(readme: Path, text: str, results: Sequence[Loaded]) -> str:
    """The text with its tables drawn anew.

    Args:
        readme: the file, for messages and links.
        text: what it holds.
        results: to draw from.

    Raises:
        BenchmarkError: it has no place for a table, one that does not end, or one without results.
    """
    drawn, rest = "", text
    while start := _START.search(rest):
        inside, end, after = rest[start.end() :].partition(_END)
        if not end or _START.search(inside):
            raise BenchmarkError(f"{readme}: no line {_END} follows {start[0].strip()}.")
        drawn += rest[: start.end()] + _section(readme, start[1], results) + _END
        rest = after
    if not drawn:
        raise BenchmarkError(f"{readme}: has no line <!-- results: NAME -->, so no table can be drawn into it.")
    return drawn + rest


def _section(readme: Path, name: str, results: Sequence[Loaded]) -> str:
    """What stands between the two lines: the tables of every device, and where they come from."""
    of_name = [loaded for loaded in results if loaded.path.stem == name]
    if not of_name:
        known = nearest(name, (loaded.path.stem for loaded in results))
        raise BenchmarkError(f"{readme}: asks for results of {name!r}, and no file is called {name}.json; {known}")
    parts = []
    for loaded in of_name:
        tables = [table for table in tables_of(loaded) if not table.details]
        for table in tables:
            title = f"**{markdown_text(table.title)}**\n\n" if len(tables) > 1 else ""
            footnote = f"\n{markdown_text(table.footnote)}\n" if table.footnote else ""
            parts.append(f"{title}{markdown_table(table)}{footnote}")
        source = Path(os.path.relpath(resolved(loaded.path), resolved(readme).parent)).as_posix()
        with complete(loaded.path, loaded.suite):
            environment = loaded.result["environment"]
            told = markdown_text(where(environment))
            parts.append(f"[{source}]({source}), {markdown_code(environment['command'])}: {told}\n")
    return "\n".join(parts)


def update(readme: Path, results: Sequence[Loaded], *, check: bool) -> bool:
    """Draw the tables of a README anew.

    Args:
        readme: the file.
        results: to draw from.
        check: change nothing.

    Returns:
        Whether the file was changed.

    Raises:
        BenchmarkError: of `with_tables`; it cannot be read; with `check`, its tables are not those of the results.
    """
    try:
        text = read_regular(readme).decode()
    except FileNotFoundError:
        raise BenchmarkError(f"{readme}: there is no such file.") from None
    except UnicodeDecodeError:
        raise BenchmarkError(f"{readme}: is not UTF-8 text.") from None
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"{readme}: cannot be read: {why(error)}.") from error
    drawn = with_tables(readme, text, results)
    if check and drawn != text:
        raise BenchmarkError(f"{readme}: its tables are not those of the results; run the same without --check.")
    if drawn == text:
        return False
    replace_file(readme, drawn.encode())
    return True
