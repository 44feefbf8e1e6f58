"""The tables of the site's page of results are those of the files."""

from __future__ import annotations

import re

from diffcore_gpu.benchmarks.reporting.collection import collect
from diffcore_gpu.benchmarks.reporting.readme import update
from tests.docs.pages import DOCS, ROOT

MARK = re.compile(r"^<!-- results: (\S+) -->$", re.MULTILINE)


def test_the_tables_are_up_to_date() -> None:
    results, _ = collect([ROOT / "benchmarks" / "results"])
    assert not update(DOCS / "results.md", results, check=True)


def test_every_table_of_the_readme_is_there_too() -> None:
    assert set(MARK.findall((ROOT / "README.md").read_text())) < set(MARK.findall((DOCS / "results.md").read_text()))
