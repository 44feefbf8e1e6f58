"""A README's tables: drawn from results, and checked against them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from diffcore_gpu.benchmarks.harness.result_file import write_result
from diffcore_gpu.benchmarks.reporting.collection import Loaded, collect
from diffcore_gpu.benchmarks.reporting.readme import update, with_tables
from diffcore_gpu.errors import BenchmarkError
from tests.benchmarks.reporting.samples import sample, write_samples

ROOT = Path(__file__).resolve().parents[3]
SECTIONS = "# Title\n\n<!-- results: peers -->\nold\n<!-- end of results -->\n\ntext\n\n<!-- results: overhead -->\n"
SECTIONS += "<!-- end of results -->\nend"


@pytest.fixture
def readme(tmp_path: Path) -> Path:
    path = tmp_path / "README.md"
    path.write_text(SECTIONS)
    return path


@pytest.fixture
def results(tmp_path: Path) -> list[Loaded]:
    return collect([write_samples(tmp_path / "results")])[0]


def test_the_repositorys_readme_is_up_to_date() -> None:
    readme = ROOT / "README.md"
    assert "<!-- results: peers -->" in readme.read_text()
    results, _ = collect([ROOT / "benchmarks" / "results"])
    assert not update(readme, results, check=True)


def test_tables_are_drawn_and_the_rest_stays(readme: Path, results: list[Loaded]) -> None:
    assert update(readme, results, check=False)
    text = readme.read_text()
    assert text.startswith("# Title\n\n<!-- results: peers -->\n| batch |")
    assert text.endswith("<!-- end of results -->\nend")
    assert "\nold\n" not in text
    assert "\n\ntext\n\n" in text
    assert (
        "| 16×3×224×224 float32 | new images | 4.00 (3.60–4.40) | torchvision cutmix: 8.00 (7.20–8.80) | 0.50 |" in text
    )
    assert "Every time" not in text  # details are the page's
    assert (
        "\n[results/device/peers.json](results/device/peers.json), `diffcore bench something --json something.json`: "
        "Some CPU, 2 threads; Python 3.12, torch 2.11.\n<!-- end" in text
    )
    below = text.partition("| puzzlemix |")[2].split("\n")
    assert below[1] == below[3] == ""
    assert below[2].startswith("Unfinished: 3 of 3 turns at batch 24.")  # how sure the figures are stands here, too
    assert not update(readme, results, check=False)
    assert not update(readme, results, check=True)
    assert readme.read_text() == text


def test_a_changed_number_fails_the_check_and_stays(readme: Path, results: list[Loaded]) -> None:
    update(readme, results, check=False)
    changed = readme.read_text().replace("4.00 (3.60", "3.00 (3.60")
    readme.write_text(changed)
    with pytest.raises(BenchmarkError, match=r"README.md: its tables are not those of the results"):
        update(readme, results, check=True)
    assert readme.read_text() == changed


def test_every_device_has_its_table_and_files_are_chosen_by_name(readme: Path, tmp_path: Path) -> None:
    folder = write_samples(tmp_path / "results")
    write_result(folder / "another" / "peers.json", sample("peers", cpu="Another CPU"))
    write_result(folder / "another" / "peers_float16.json", sample("peers", cpu="Third CPU"))
    text = with_tables(readme, SECTIONS, collect([folder])[0])
    assert text.index("Another CPU") < text.index("Some CPU")
    assert "Third CPU" not in text
    other = "<!-- results: peers_float16 -->\n<!-- end of results -->\n"
    assert "Third CPU" in with_tables(readme, other, collect([folder])[0])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("no tables", "has no line <!-- results: NAME -->"),
        ("<!-- results: peers -->\n", "no line <!-- end of results --> follows <!-- results: peers -->"),
        (
            "<!-- results: peers -->\n<!-- results: overhead -->\n<!-- end of results -->\n",
            "no line <!-- end of results --> follows <!-- results: peers -->",
        ),
        (
            "<!-- results: peer -->\n<!-- end of results -->\n",
            "asks for results of 'peer', and no file is called peer.json; did you mean peers",
        ),
    ],
)
def test_a_readme_that_cannot_be_drawn_stays(readme: Path, results: list[Loaded], text: str, why: str) -> None:
    readme.write_text(text)
    with pytest.raises(BenchmarkError, match=re.escape(why)):
        update(readme, results, check=False)
    assert readme.read_text() == text


def test_a_missing_readme_is_named(tmp_path: Path, results: list[Loaded]) -> None:
    with pytest.raises(BenchmarkError, match=r"NO.md: there is no such file"):
        update(tmp_path / "NO.md", results, check=False)
