"""Draw the tables of `concepts/reliability.md`: ``python docs/make_reliability.py [--from DIR] [--check | --print]``.

They come from `tests/torture/results.json`, the counts of a run of `make torture`. With ``--from`` the counts that its
processes left in DIR are put into that file first; with ``--print`` they are only printed. ``--check`` changes
nothing and fails where the page is not what would be drawn.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "tests" / "torture" / "results.json"
PAGE = ROOT / "docs" / "concepts" / "reliability.md"
FIELDS = ("part", "operation", "fault", "call", "outcome")

Cases = Counter[tuple[str, ...]]

_PLACE = re.compile(r"(<!-- torture: (\w+) -->\n).*?(<!-- end of torture -->)", re.DOTALL)


def gathered(folder: Path) -> Cases:
    """The counts that the processes of a run left."""
    cases: Cases = Counter()
    files = sorted(folder.glob("*.json"))
    if not files:
        raise SystemExit(f"{folder} holds no counts; run make torture.")
    for file in files:
        cases.update({tuple(key): count for *key, count in json.loads(file.read_text())["cases"]})
    return cases


def written(cases: Cases) -> str:
    """`results.json`: a line for each kind of case."""
    lines = ",\n".join(json.dumps([*key, count], ensure_ascii=False) for key, count in sorted(cases.items()))
    return f'{{"fields": {json.dumps([*FIELDS, "cases"])},\n"cases": [\n{lines}\n]}}\n'


def read() -> Cases:
    """The counts of `results.json`."""
    return Counter({tuple(key): count for *key, count in json.loads(RESULTS.read_text())["cases"]})


def table(cases: Cases, part: str, name: str, row: Callable[[tuple[str, ...]], str]) -> str:
    """A table of one part: a line for each value of `row`, a column for each outcome."""
    counts: dict[str, Counter[str]] = {}
    for key, count in cases.items():
        if key[0] == part:
            counts.setdefault(row(key), Counter())[key[4]] += count
    total: Counter[str] = Counter()
    for line in counts.values():
        total.update(line)
    outcomes = sorted(total, key=lambda outcome: (outcome == "WRONG", outcome))
    lines = [*sorted(counts.items()), *([("**together**", total)] if len(counts) > 1 else [])]
    drawn = f"| {name} | cases | {' | '.join(outcomes)} |\n| --- | ---: |{' ---: |' * len(outcomes)}\n"
    for label, line in lines:
        numbers = (f"{line[outcome]:,}" if line[outcome] else "–" for outcome in outcomes)
        drawn += f"| {label} | {line.total():,} | {' | '.join(numbers)} |\n"
    return drawn


TABLES: dict[str, tuple[str, str, Callable[[tuple[str, ...]], str]]] = {
    "faults": ("faults", "fault", lambda key: key[2]),
    "operations": ("faults", "operation", lambda key: key[1]),
    "again": ("killed again and again", "operation", lambda key: key[1]),
    "powerloss": ("power loss", "operation", lambda key: key[1]),
    "disks": ("power loss", "what became of what was not flushed", lambda key: key[2]),
    "forgotten": ("one flush forgotten", "flush of", lambda key: _kind(key[2])),
    "work": ("damaged work", "damage", lambda key: key[2]),
    "stores": ("damaged store", "damage", lambda key: key[2]),
    "in_use": ("changed in use", "used by, read by", lambda key: key[1]),
    "changes": ("changed in use", "change", lambda key: key[2]),
    "amid": ("changed in use, at any moment", "read by, change", lambda key: f"{key[1]}, {key[2]}"),
    "fuzzed": ("fuzzed files", "file", lambda key: key[1]),
    "soak": ("soak", "flat over all rounds", lambda key: key[2]),
}


def _kind(fault: str) -> str:
    name = fault.removeprefix("flush ").rsplit("/", 1)[-1]
    return "a file" if "." in name.strip(".") and not name.endswith(".report") else "a folder"


def drawn(text: str, cases: Cases) -> str:
    """The page with its tables drawn anew."""
    return _PLACE.sub(lambda place: place[1] + table(cases, *TABLES[place[2]]) + place[3], text)


def main(arguments: Iterable[str] | None = None) -> None:
    """Draw, check or print."""
    parser = argparse.ArgumentParser(description="Draw the tables of concepts/reliability.md.")
    parser.add_argument("--from", dest="folder", type=Path, help="counts of a run of make torture")
    parser.add_argument("--print", action="store_true", help="only print the tables")
    parser.add_argument("--check", action="store_true", help="only compare")
    options = parser.parse_args(None if arguments is None else list(arguments))
    cases = gathered(options.folder) if options.folder else read()
    if options.print:
        for name, (part, label, row) in TABLES.items():
            if any(key[0] == part for key in cases):
                print(f"{part}, by {name}\n\n{table(cases, part, label, row)}")
        wrong = sum(count for key, count in cases.items() if key[4] == "WRONG")
        print(f"{cases.total():,} cases, {wrong:,} of them wrong.")
        return
    if options.folder:
        RESULTS.write_text(written(cases))
    text = PAGE.read_text()
    anew = drawn(text, cases)
    if options.check and anew != text:
        sys.exit(f"{PAGE} is not drawn from {RESULTS}: run python docs/make_reliability.py.")
    if not options.check:
        PAGE.write_text(anew)


if __name__ == "__main__":
    main()
