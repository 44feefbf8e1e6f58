"""The tally counts samples once, and a bounded number of those that never passed."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from diffcore_gpu.generation.report.records import Candidate, GenerationReport, NeverPassed
from diffcore_gpu.generation.report.tally import KEPT_NEVER_PASSED, ReportTally


def report_of(tally: ReportTally) -> GenerationReport:
    return tally.report(model={}, settings={}, seconds={}, wall_seconds=0.0, timed_images=0)


def test_two_counterparts_of_one_sample_cover_it_once() -> None:
    tally = ReportTally(["a"], [0, 0], [0, 1, 1], [0.5])
    candidate = Candidate(0, 0, 0, 1, "", "", 0.75, True)
    tally.add(candidate)
    tally.add(replace(candidate, seed=2))
    [part] = report_of(tally).classes
    assert (part.wanted, part.covered, part.accepted, part.uncovered) == (2, 1, 2, 1)


def test_the_report_does_not_grow_with_the_samples_that_never_passed() -> None:
    tally = ReportTally(["a", "b"], [0] * 5000 + [1] * 5, range(5005), [0.5, 0.5])
    for sample in range(5005):
        tally.give_up(NeverPassed(sample, sample // 5000, f"{sample}.png", 4, 0.25))
    report = report_of(tally)
    assert report.without_counterpart == 5005
    assert len(report.never_passed) == KEPT_NEVER_PASSED
    assert sum(item.label == 1 for item in report.never_passed) == 5


def test_a_class_without_threshold_is_not_in_the_margin() -> None:
    tally = ReportTally(["a", "b"], [0, 1], [0, 1], [0.5, math.nan])
    for label in (0, 1):
        tally.add(Candidate(label, label, 0, 1, "", "", 0.75, True))
    report = report_of(tally)
    assert report.margin.total == 1
    assert report.margin.low == pytest.approx(0.245)
    assert [part.histogram.total for part in report.classes] == [1, 1]


def test_other_number_of_thresholds() -> None:
    with pytest.raises(ValueError, match="2 classes have 1 thresholds"):
        ReportTally(["a", "b"], [], [], [0.5])
