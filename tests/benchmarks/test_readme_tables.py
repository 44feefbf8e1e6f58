"""The README's numbers are those of the committed results."""

import json
from pathlib import Path
from typing import Any

import pytest
import readme_tables


def timing(median: float) -> dict[str, float]:
    return {"median_ms": median, "p10_ms": median * 0.9, "p90_ms": median * 1.1}


ENVIRONMENT = {
    "command": "python benchmarks/peers.py", "gpu": None, "cpu": "Some CPU", "threads": 2, "python": "3.12",
    "versions": {"torch": "2.11", "triton": None},
}  # fmt: skip


def test_the_readme_is_up_to_date() -> None:
    text = (readme_tables.ROOT / "README.md").read_text()
    assert "<!-- results: peers -->" in text
    assert readme_tables.with_tables(text) == text


@pytest.fixture
def results(tmp_path: Path) -> Path:
    times = {
        "diffcore default": timing(4), "diffcore default (in place)": timing(3), "torchvision cutmix": timing(8),
        "timm cutmix batch (in place)": timing(2),
    }  # fmt: skip
    peers: dict[str, Any] = {
        "environment": ENVIRONMENT,
        "batches": [{"batch": 16, "size": 224, "dtype": "float32", "times": times}],
    }
    steps = {"vanilla": timing(10), "ours": timing(9)}
    trained = {"environment": ENVIRONMENT, "results": [{"batch": 8, "times": {"in a training step": steps}}]}
    for name, result in (("peers", peers), ("geometry", trained)):
        (tmp_path / "some-device").mkdir(exist_ok=True)
        (tmp_path / "some-device" / f"{name}.json").write_text(json.dumps(result))
    return tmp_path


def test_tables_are_drawn_from_results(results: Path) -> None:
    sections = [f"<!-- results: {name} -->\nold\n<!-- end of results -->\n" for name in ("peers", "geometry")]
    drawn = readme_tables.with_tables("a\n".join(sections), results)
    assert "old" not in drawn
    assert (
        "| 16×3×224×224 float32 | new images | 4.00 (3.60–4.40) | torchvision cutmix: 8.00 (7.20–8.80) | 0.50 |"
        in drawn
    )
    assert (
        "| 16×3×224×224 float32 | in place | 3.00 (2.70–3.30) | timm cutmix batch: 2.00 (1.80–2.20) | 1.50 |" in drawn
    )
    assert "Some CPU, 2 threads; Python 3.12, torch 2.11." in drawn
    assert "| 8 | ours | 9.00 (8.10–9.90) | -10.0% |" in drawn
    assert readme_tables.with_tables(drawn, results) == drawn


def test_an_unknown_table_is_refused(results: Path) -> None:
    with pytest.raises(SystemExit, match="results of 'nonsense'; known are peers"):
        readme_tables.with_tables("<!-- results: nonsense -->\n<!-- end of results -->", results)
