"""What the page shows of a report, as plain data for its template: which charts, rows and pictures, in which order."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diffcore_gpu.generation.report.histogram import BIN_WIDTH, Histogram, Scale, common_scale
from diffcore_gpu.generation.report.records import Candidate, ClassReport, GenerationReport, NeverPassed
from diffcore_gpu.generation.report.text import count, counted, plain_value, similarity
from diffcore_gpu.htmlreport.chart import BarChart, Sparkline, bar_chart, sparkline
from diffcore_gpu.htmlreport.images import Picture

MOST_CHARTS = 20
"""Classes with a histogram of their own."""
MOST_CLASSES = 2000
"""Classes in the table."""
_NEGATIVE_PROMPTS = 8
_SETTING_NAMES = {
    "gamma": "guidance γ (eq. 4)",
    "w": "guidance w = 1 + γ",
    "guidance_scale": "guidance w = 1 + γ",
    "vae": "VAE",
}


@dataclass(frozen=True)
class Overall:
    """The histogram of all images.

    Attributes:
        title: what it is of.
        note: of the thresholds.
        chart: the histogram.
        rows: (range, accepted, discarded) of each bar that is not empty.
    """

    title: str
    note: str
    chart: BarChart
    rows: Sequence[tuple[str, int, int]]


@dataclass(frozen=True)
class Shown:
    """One figure of a gallery.

    Attributes:
        candidate: what is known of it.
        part: its class.
        real: the real image.
        image: the generated one, of the same size.
    """

    candidate: Candidate
    part: ClassReport
    real: Picture
    image: Picture

    @property
    def margin(self) -> float:
        """S − τ of the class; NaN where it has no τ."""
        return self.candidate.similarity - self.part.threshold


@dataclass(frozen=True)
class Gallery:
    """Real images and candidates side by side, the most similar first.

    Attributes:
        name: of the element.
        title: above it.
        role: of the generated images.
        note: how many of how many are shown.
        figures: what is shown.
        classes: (class number, name) of those in it.
    """

    name: str
    title: str
    role: str
    note: str
    figures: Sequence[Shown]
    classes: Sequence[tuple[int, str]]


def overall(report: GenerationReport) -> Overall:
    """The histogram of S over all classes, or of S − τ where τ differs between them."""
    thresholds = [part.threshold for part in report.classes if not math.isnan(part.threshold)]
    one = report.total.threshold
    if math.isnan(one) and thresholds and report.margin.total:
        low, high = (similarity(value) for value in (min(thresholds), max(thresholds)))
        note = f"τ differs between the classes, from {low} to {high}."
        return _overall(report.margin, 0.0, "S = τ", "S − τ of all classes", note)
    name, note = ("", "There is no τ.") if math.isnan(one) else (_named(one), "All classes have the same τ.")
    return _overall(report.total.histogram, one, name, "S of all classes", note)


def class_charts(report: GenerationReport) -> tuple[str, list[tuple[ClassReport, BarChart]]]:
    """Histograms of up to `MOST_CHARTS` classes on one scale, and what is said of the choice."""
    shown = [part for part in report.classes if part.generated]
    note = "The classes, on one scale of S."
    if len(shown) > MOST_CHARTS:
        ranked = sorted(enumerate(shown), key=lambda item: (-_concern(item[1])[1], item[0]))[:MOST_CHARTS]
        note = (
            f"The {MOST_CHARTS} classes with the most discards in percent, on one scale of S; the table below has a "
            "small histogram of every class."
        )
        shown = [part for _, part in ranked]
    scale = _class_scale(shown, 32)
    return note, [(part, _class_chart(part, scale)) for part in shown]


def class_rows(report: GenerationReport) -> tuple[str, list[tuple[ClassReport, Sparkline | None]]]:
    """The caption and the rows of the table of classes, those that need a look first where not all are shown."""
    shown = list(enumerate(report.classes))
    note = f"{counted(len(shown), 'class')}."
    if len(shown) > MOST_CLASSES:
        shown = sorted(sorted(shown, key=lambda item: _concern(item[1]), reverse=True)[:MOST_CLASSES])
        note = (
            f"{count(MOST_CLASSES)} of {counted(len(report.classes), 'class')}: those without counterparts, and then "
            "those with the most discards in percent."
        )
    parts = [part for _, part in shown]
    scale = _class_scale(parts, 48)
    span = f"{similarity(scale.span.low)} to {similarity(scale.span.high)}"
    return f"{note} The small histograms run from S = {span} in every row.", [
        (part, _class_spark(part, scale) if part.generated else None) for part in parts
    ]


def never_passed(report: GenerationReport) -> tuple[str, list[tuple[NeverPassed, float]]]:
    """The caption and the rows of the samples whose every attempt was discarded, each with its best S − τ."""
    listed = sorted(report.never_passed, key=lambda item: (item.label, item.sample))
    caption = f"{counted(report.total.never_passed, 'sample')}, left without a counterpart."
    if len(listed) < report.total.never_passed:
        caption += f" {count(len(listed))} of them are listed, spread over the classes."
    return caption, [(item, item.best - report.classes[item.label].threshold) for item in listed]


def pairs(report: GenerationReport, shown: Iterable[Shown], available: int) -> Gallery:
    """The gallery of accepted images.

    Args:
        report: the report.
        shown: what the gallery shows.
        available: how many images were offered to it.
    """
    return _gallery("pairs", "Pairs", "counterpart", "pair", shown, max(available, report.total.accepted))


def discards(report: GenerationReport, shown: Iterable[Shown], available: int) -> Gallery:
    """The gallery of discarded images; see `pairs`."""
    total = max(available, report.total.discarded)
    return _gallery("discards", "Discarded images", "discarded", "discarded image", shown, total)


def negative_prompts(candidates: Iterable[Candidate]) -> list[str]:
    """The different negative prompts of candidates, if they are few."""
    texts = sorted({candidate.negative_prompt for candidate in candidates} - {""})
    more = len(texts) - _NEGATIVE_PROMPTS
    return [*texts[:_NEGATIVE_PROMPTS], f"… and {count(more)} more"] if more > 0 else texts


def settings(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Names and texts of settings; groups one by one: ``prompts: {name: bird}`` is ``prompts name: bird``."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from settings(value, f"{above}{key} ")
        else:
            name = above + key
            yield _SETTING_NAMES.get(name, name.replace("_", " ")), plain_value(value)


def _overall(histogram: Histogram, threshold: float, name: str, title: str, note: str) -> Overall:
    scale = common_scale([histogram], [threshold], 48)
    stacks = histogram.merged(scale)
    label = (
        f"Histogram of {title}: {count(sum(histogram.accepted))} accepted, {count(sum(histogram.discarded))} discarded."
    )
    rows = []
    for number, (accepted, discarded) in enumerate(zip(*stacks.values(), strict=True)):
        low = (scale.begin + number * scale.factor) * BIN_WIDTH
        if accepted + discarded:
            span = f"{similarity(low)} to {similarity(low + scale.factor * BIN_WIDTH)}"
            rows.append((span, accepted, discarded))
    return Overall(title, note, bar_chart(stacks, scale.span, label, mark=threshold, mark_name=name), rows)


def _class_chart(part: ClassReport, scale: Scale) -> BarChart:
    stacks, name = part.histogram.merged(scale), "" if math.isnan(part.threshold) else _named(part.threshold)
    return bar_chart(stacks, scale.span, _described(part), mark=part.threshold, mark_name=name, height=120)


def _class_spark(part: ClassReport, scale: Scale) -> Sparkline:
    return sparkline(part.histogram.merged(scale), scale.span, _described(part), part.threshold)


def _named(threshold: float) -> str:
    return f"τ {similarity(threshold)}"


def _described(part: ClassReport) -> str:
    return f"S of {part.name}: {count(part.accepted)} accepted, {count(part.discarded)} discarded."


def _class_scale(parts: list[ClassReport], most_bars: int) -> Scale:
    return common_scale([part.histogram for part in parts], [part.threshold for part in parts], most_bars)


def _concern(part: ClassReport) -> tuple[bool, float]:
    discarded = part.discarded_percent
    return part.wanted > 0 and not part.covered, -1.0 if math.isnan(discarded) else discarded


def _gallery(name: str, title: str, role: str, noun: str, shown: Iterable[Shown], total: int) -> Gallery:
    figures = sorted(
        shown, key=lambda item: (-item.candidate.similarity, item.candidate.sample, item.candidate.attempt)
    )
    classes = sorted({item.candidate.label: item.part.name for item in figures}.items())
    return Gallery(name, title, role, _note(len(figures), total, noun), figures, classes)


def _note(shown: int, total: int, noun: str) -> str:
    order = "The most similar come first."
    if not total:
        return f"There is no {noun}."
    if not shown:
        return f"None of the {counted(total, noun)} was kept for this page."
    if shown < total:
        return f"{count(shown)} of {counted(total, noun)}, chosen evenly over the classes. {order}"
    return f"All {counted(total, noun)}. {order}" if total > 1 else f"The only {noun}."
