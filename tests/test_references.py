"""Equations, figures, tables and papers are referred to in the one form that CONTRIBUTING.md gives."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("diffcore_gpu", "benchmarks", "kernels", "tests", "docs", "examples")
FILES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*")))
    if path.suffix in (".py", ".md") and path != Path(__file__) and "results" not in path.parts
)

OTHER_FORMS = {
    "an equation, as in eq. 6": r"\b[Ee]q(?:uation|n)s?\.? ?\(?\d|\b[Ee]qs? \(?\d|\b[Ee]qs?\.(?: ?\(|)\d",
    "a figure, as in Fig. 6": r"\b[Ff]igures? \d|\bfigs?\. ?\d|\bFigs?(?:\.| )\d",
    "a table, as in Table 6": r"\b[Tt]abs?\. ?\d|\btables? \d+ of the paper",
    "all authors of a paper": r"\bet al\b",
    "authors without their initials": r"(?:[A-Z]\. )+[A-Z][a-z]+(?:, )(?:[A-Z]\. )+[A-Z][a-z]",
    "a paper's title in straight quotes": r"”,\s+(?:#\s+)?[A-Z][\w ]*,? (?:19|20)\d\d",
    "an arXiv number after a space": r"arXiv:\s?\d",
}
"""What is meant, and how else it may be written."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_references_have_one_form(path: Path) -> None:
    text = path.read_text()
    assert {meant: found for meant, form in OTHER_FORMS.items() if (found := re.findall(form, text))} == {}


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("equation 4", "an equation, as in eq. 6"),
        ("eq. (4)", "an equation, as in eq. 6"),
        ("eq 4", "an equation, as in eq. 6"),
        ("Figure 3", "a figure, as in Fig. 6"),
        ("fig. 3", "a figure, as in Fig. 6"),
        ("Podell et al., 2023", "all authors of a paper"),
        ("S. Boldo, G. Melquiond", "authors without their initials"),
        ("“Easy as 1, 2, 3”, SC 2011", "a paper's title in straight quotes"),
        ("arXiv:2012.11101", "an arXiv number after a space"),
    ],
)
def test_other_forms_are_noticed(text: str, meant: str) -> None:
    assert re.search(OTHER_FORMS[meant], text)


@pytest.mark.parametrize(
    "text", ["eq. 6", "eqs. 6–8", "Eq. 6", "Fig. 6", "Figs. 7 and 8", "Table 6", 'Hou, Zhang, "A Title", CVPR 2007']
)
def test_the_form_is_not(text: str) -> None:
    assert not any(re.search(form, text) for form in OTHER_FORMS.values())
