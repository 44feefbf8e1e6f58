"""Counts a run's candidates as they come, and gives the report at any time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from diffcore_gpu.generation.report.choice import StratifiedChoice
from diffcore_gpu.generation.report.histogram import HistogramCounter
from diffcore_gpu.generation.report.records import Candidate, ClassReport, GenerationReport, NeverPassed, PromptReport

KEPT_NEVER_PASSED = 500
"""How many samples that never passed the report lists; it counts all of them."""


class ReportTally:
    """Counts candidates; its memory is one byte per sample, and the histograms of the classes.

    A resumed run makes a new tally and adds the candidates of its journal again.

    Args:
        class_names: the name of each class, by number.
        labels: class number of every sample of the dataset.
        wanted: the samples that are to get a counterpart.
        thresholds: τ of each class; NaN where there is none.
        prompts: the texts of the prompt set, by prompt id; empty: not counted by prompt.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        labels: Sequence[int],
        wanted: Iterable[int],
        thresholds: Sequence[float],
        prompts: Sequence[str] = (),
    ) -> None:
        if len(thresholds) != len(class_names):
            raise ValueError(f"{len(class_names)} classes have {len(thresholds)} thresholds.")
        count = len(class_names)
        self._names = tuple(class_names)
        self._thresholds = tuple(float(threshold) for threshold in thresholds)
        self._prompts = tuple(prompts)
        self._samples = [0] * count
        self._wanted = [0] * count
        self._covered = [0] * count
        self._generated = [0] * count
        self._discarded = [0] * count
        self._never_passed = [0] * count
        self._by_prompt = [[0, 0] for _ in self._prompts]
        self._has_counterpart = bytearray(len(labels))
        self._histograms = [HistogramCounter() for _ in range(count)]
        self._margin = HistogramCounter()
        self._kept: StratifiedChoice[NeverPassed] = StratifiedChoice(KEPT_NEVER_PASSED)
        for label in labels:
            self._samples[label] += 1
        for sample in set(wanted):
            self._wanted[labels[sample]] += 1

    def add(self, candidate: Candidate) -> None:
        """Count one generated image.

        Raises:
            ValueError: its similarity is not a finite number.
        """
        label = candidate.label
        self._histograms[label].add(candidate.similarity, candidate.accepted)
        if self._thresholds[label] == self._thresholds[label]:
            self._margin.add(candidate.similarity - self._thresholds[label], candidate.accepted)
        self._generated[label] += 1
        self._discarded[label] += not candidate.accepted
        if 0 <= candidate.prompt_id < len(self._by_prompt):
            self._by_prompt[candidate.prompt_id][0] += 1
            self._by_prompt[candidate.prompt_id][1] += not candidate.accepted
        if candidate.accepted and not self._has_counterpart[candidate.sample]:
            self._has_counterpart[candidate.sample] = 1
            self._covered[label] += 1

    def give_up(self, sample: NeverPassed) -> None:
        """Every attempt for that sample was discarded; call it once for a sample."""
        self._never_passed[sample.label] += 1
        self._kept.add(sample.label, str(sample.sample), sample)

    def report(
        self,
        *,
        model: Mapping[str, Any],
        settings: Mapping[str, Any],
        seconds: Mapping[str, float],
        wall_seconds: float,
        timed_images: int,
    ) -> GenerationReport:
        """The report of what was counted so far; the arguments are the fields of the same name."""
        return GenerationReport(
            classes=tuple(
                ClassReport(
                    name=name,
                    samples=self._samples[label],
                    wanted=self._wanted[label],
                    covered=self._covered[label],
                    generated=self._generated[label],
                    discarded=self._discarded[label],
                    threshold=self._thresholds[label],
                    never_passed=self._never_passed[label],
                    histogram=self._histograms[label].histogram(),
                )
                for label, name in enumerate(self._names)
            ),
            model=dict(model),
            settings=dict(settings),
            seconds=dict(seconds),
            wall_seconds=wall_seconds,
            timed_images=timed_images,
            margin=self._margin.histogram(),
            prompts=tuple(PromptReport(text, *self._by_prompt[k]) for k, text in enumerate(self._prompts)),
            never_passed=tuple(self._kept),
        )
