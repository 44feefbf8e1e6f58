"""The tables of the page on reliability are those of the counts, in which no case went wrong."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.docs.pages import ROOT


def test_the_tables_are_up_to_date() -> None:
    subprocess.run([sys.executable, ROOT / "docs" / "make_reliability.py", "--check"], check=True)


def test_no_case_went_wrong() -> None:
    counts = json.loads((ROOT / "tests" / "torture" / "results.json").read_text())
    assert counts["cases"]
    assert not [case for case in counts["cases"] if case[4] == "WRONG"]
