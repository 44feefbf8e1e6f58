"""The figures of a report are those of its candidates, and survive JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from diffcore_gpu.generation.report.records import Candidate, ClassReport, GenerationReport
from tests.generation.report.reports import make_run


def test_figures_equal_a_count_of_the_candidates(tmp_path: Path) -> None:
    run = make_run(tmp_path, ["a", "b", "c"], hopeless=2)
    report, candidates = run.report, run.candidates
    assert report.total.generated == len(candidates)
    assert report.total.accepted == sum(candidate.accepted for candidate in candidates)
    assert report.total.discarded_percent == pytest.approx(100 * report.total.discarded / len(candidates))
    assert report.total.acceptance_rate == pytest.approx(report.total.accepted / len(candidates))
    assert report.total.covered == len({candidate.sample for candidate in candidates if candidate.accepted})
    assert report.total.coverage == pytest.approx(report.total.covered / 18)
    for label, part in enumerate(report.classes):
        own = [candidate for candidate in candidates if candidate.label == label]
        assert (part.generated, part.discarded) == (len(own), sum(not candidate.accepted for candidate in own))
        assert part.histogram.total == len(own)
        assert part.uncovered == 6 - len({candidate.sample for candidate in own if candidate.accepted})
    assert report.classes[2].covered == 0
    assert report.classes[2].discarded_percent == 100
    assert report.classes[2].never_passed == 6
    assert {item.sample for item in report.never_passed} == {
        sample for sample in range(18) if not any(c.accepted for c in candidates if c.sample == sample)
    }
    assert sum(prompt.generated for prompt in report.prompts) == len(candidates)
    assert sum(prompt.discarded for prompt in report.prompts) == report.total.discarded
    assert report.images_per_second == pytest.approx(len(candidates) / 10)
    assert report.seconds_per_counterpart == pytest.approx(10 / report.total.accepted)
    assert report.stage_shares == pytest.approx({"denoiser": 0.8, "vae": 0.15, "filter": 0.03, "write": 0.02})


def test_json_round_trip(tmp_path: Path) -> None:
    report = make_run(tmp_path, ["a", "b"]).report
    text = json.dumps(report.as_json(), allow_nan=False)
    assert GenerationReport.from_json(json.loads(text)) == report
    candidate = Candidate(3, 1, 2, 2**62, "a “bird”", "", 0.25, False, 4)
    assert Candidate.from_json(json.loads(json.dumps(candidate.as_json()))) == candidate


def test_nothing_generated_and_no_threshold() -> None:
    report = GenerationReport([ClassReport("a", 3, 3, 0, 0, 0, math.nan)], {}, {})
    value = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert value["discarded_percent"] is None
    assert value["classes"][0]["threshold"] is None
    again = GenerationReport.from_json(value)
    assert math.isnan(again.classes[0].threshold)
    assert math.isnan(again.total.discarded_percent)
    assert again.stage_shares == {}
    assert math.isnan(again.total.threshold)


def test_one_threshold() -> None:
    parts = [ClassReport(name, 1, 1, 0, 0, 0, 0.5) for name in "ab"]
    assert GenerationReport(parts, {}, {}).total.threshold == 0.5
    other = ClassReport("c", 1, 1, 0, 0, 0, 0.6)
    assert math.isnan(GenerationReport([*parts, other], {}, {}).total.threshold)
    # Equal again after another: still not one for all.
    assert math.isnan(GenerationReport([*parts, other, other], {}, {}).total.threshold)


@pytest.mark.parametrize("damage", [{}, [], {"version": 99}, {"version": 1}, {"version": 1, "classes": [3]}])
def test_other_json_is_refused(damage: object) -> None:
    with pytest.raises(ValueError, match="not a generation report"):
        GenerationReport.from_json(damage)  # type: ignore[arg-type]


def test_contradicting_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="contradict"):
        ClassReport("a", samples=3, wanted=3, covered=1, generated=2, discarded=3, threshold=0.5)
    with pytest.raises(ValueError, match="negative"):
        ClassReport("a", samples=-1, wanted=0, covered=0, generated=0, discarded=0, threshold=0.5)
