"""Sections of the report's page: similarities as histograms, the table of classes, the table of prompts."""

from __future__ import annotations

import math

from diffcore_gpu.generation.report.histogram import BIN_WIDTH, Histogram
from diffcore_gpu.generation.report.page_table import number_cell, percent_cell, table, value_cell
from diffcore_gpu.generation.report.records import ClassReport, GenerationReport
from diffcore_gpu.generation.report.text import count, counted, difference, percent, similarity
from diffcore_gpu.htmlreport.chart import Scale, common_scale, histogram_chart, sparkline
from diffcore_gpu.htmlreport.page import escaped, isolated

MOST_CHARTS = 20
"""Classes with a histogram of their own."""
MOST_CLASSES = 2000
"""Classes in the table."""

_CLASS_COLUMNS = (
    *(("Class", "text"), ("Samples", "number"), ("Wanted", "number"), ("Covered", "number"), ("Generated", "number")),
    *(("Discarded", "number"), ("Discarded %", "number"), ("τ", "number"), ("S", "picture")),
)
_PROMPT_COLUMNS = (
    *(("Id", "number"), ("Prompt", "text"), ("Generated", "number"), ("Discarded", "number")),
    ("Discarded %", "number"),
)
_NEVER_COLUMNS = (
    *(("File", "text"), ("Sample", "number"), ("Attempts", "number"), ("Best S", "number")),
    ("Best S to τ", "number"),
)

_KEY = (
    '<ul class="key" aria-hidden="true"><li><svg><rect class="accepted" width="100%" height="100%"/></svg>accepted</li>'
    '<li><svg><rect class="discarded" width="100%" height="100%"/></svg>discarded</li>'
    '<li><svg class="line"><line class="threshold" x1="50%" x2="50%" y1="0" y2="100%"/></svg>τ</li></ul>'
)


def similarities(report: GenerationReport) -> str:
    """Histograms of S: over all classes, and for up to `MOST_CHARTS` classes."""
    thresholds = [part.threshold for part in report.classes if not math.isnan(part.threshold)]
    one = report.total.threshold
    text = (
        "S is the cosine similarity of the real image and its candidate in the filter's embedding. "
        "A candidate is accepted if S &gt; τ of its class; otherwise it is discarded and another is generated."
    )
    parts = [f'<section id="similarities"><h2>Similarities and thresholds</h2><p>{text}</p>{_KEY}']
    if math.isnan(one) and thresholds and report.margin.total:
        note = f"τ differs between the classes, from {similarity(min(thresholds))} to {similarity(max(thresholds))}."
        parts.append(_overall(report.margin, 0.0, "S = τ", "S − τ of all classes", note))
    else:
        name = "" if math.isnan(one) else f"τ {similarity(one)}"
        note = "There is no τ." if math.isnan(one) else "All classes have the same τ."
        parts.append(_overall(report.total.histogram, one, name, "S of all classes", note))
    if len(report.classes) > 1:
        parts.append(_multiples(report))
    return "".join((*parts, "</section>"))


def classes(report: GenerationReport) -> str:
    """The table of classes, those that need a look first where not all are shown."""
    shown = list(enumerate(report.classes))
    note = f"{counted(len(shown), 'class')}."
    if len(shown) > MOST_CLASSES:
        shown = sorted(sorted(shown, key=lambda item: _concern(item[1]), reverse=True)[:MOST_CLASSES])
        note = (
            f"{count(MOST_CLASSES)} of {counted(len(report.classes), 'class')}: those without counterparts, and then "
            "those with the most discards in percent."
        )
    scale = _class_scale([part for _, part in shown], 48)
    span = f"{similarity(scale.low)} to {similarity(scale.high)}"
    caption = f"{note} The small histograms run from S = {span} in every row."
    rows = [_class_row(part, scale) for _, part in shown]
    return f'<section id="classes"><h2>Classes</h2>{table("Classes", caption, _CLASS_COLUMNS, rows)}</section>'


def prompts(report: GenerationReport) -> str:
    """The table of prompts; nothing where the run did not count them."""
    if not report.prompts:
        return ""
    rows = [
        f'<tr>{number_cell(number)}<td class="prompt">{isolated(prompt.text)}</td>'
        f"{number_cell(prompt.generated)}{number_cell(prompt.discarded)}{percent_cell(prompt.discarded_percent)}</tr>"
        for number, prompt in enumerate(report.prompts)
    ]
    caption = "How often each prompt of the set was used, and how often its images were discarded."
    return f'<section id="prompts"><h2>Prompts</h2>{table("Prompts", caption, _PROMPT_COLUMNS, rows)}</section>'


def never_passed(report: GenerationReport) -> str:
    """Samples whose every attempt was discarded; nothing where there are none."""
    if not report.total.never_passed:
        return ""
    listed = sorted(report.never_passed, key=lambda item: (item.label, item.sample))
    rows = []
    for item in listed:
        gap = item.best - report.classes[item.label].threshold
        rows.append(
            f'<tr><th scope="row">{isolated(item.name)}</th>{number_cell(item.sample)}'
            f"{number_cell(item.attempts)}{value_cell(item.best, similarity(item.best))}"
            f"{value_cell(gap, f'τ {difference(gap)}')}</tr>"
        )
    caption = f"{counted(report.total.never_passed, 'sample')}, left without a counterpart."
    if len(listed) < report.total.never_passed:
        caption += f" {count(len(listed))} of them are listed, spread over the classes."
    name = "Samples that never passed"
    return f'<section id="never-passed"><h2>{name}</h2>{table(name, caption, _NEVER_COLUMNS, rows)}</section>'


def _overall(histogram: Histogram, threshold: float, name: str, title: str, note: str) -> str:
    scale = common_scale([histogram], [threshold], 48)
    passed, failed = sum(histogram.accepted), sum(histogram.discarded)
    label = f"Histogram of {title}: {count(passed)} accepted, {count(failed)} discarded."
    accepted, discarded = histogram.merged(scale.factor, scale.begin, scale.end)
    rows = "".join(
        f'<tr><th scope="row">{similarity(low)} to {similarity(low + scale.factor * BIN_WIDTH)}</th>'
        f'<td class="number">{count(a)}</td><td class="number">{count(d)}</td></tr>'
        for low, a, d in zip(
            [(scale.begin + k * scale.factor) * BIN_WIDTH for k in range(len(accepted))],
            accepted,
            discarded,
            strict=True,
        )
        if a + d
    )
    return (
        f'<figure class="card pair" id="overall"><h3>{title}</h3><p class="caption">{note}</p>'
        f"{histogram_chart(histogram, scale, threshold, name, label)}"
        '<details><summary>The numbers of this histogram</summary><div class="scroll"><table>'
        '<thead><tr><th scope="col">range</th><th scope="col" class="number">accepted</th>'
        f'<th scope="col" class="number">discarded</th></tr></thead><tbody>{rows}</tbody></table></div></details>'
        "</figure>"
    )


def _multiples(report: GenerationReport) -> str:
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
    cards = "".join(
        f'<figure class="card pair"><h3 title="{escaped(part.name)}">{isolated(part.name)}</h3>'
        f'<p class="caption">{percent(part.discarded_percent)} of {count(part.generated)} discarded</p>'
        f"{_class_chart(part, scale)}</figure>"
        for part in shown
    )
    return f'<p class="note">{note}</p><div class="multiples">{cards}</div>'


def _class_chart(part: ClassReport, scale: Scale) -> str:
    name = "" if math.isnan(part.threshold) else f"τ {similarity(part.threshold)}"
    return histogram_chart(part.histogram, scale, part.threshold, name, _described(part), height=120)


def _class_row(part: ClassReport, scale: Scale) -> str:
    bare = ' <span class="tag">⚠ none covered</span>' if part.wanted and not part.covered else ""
    spark = sparkline(part.histogram, scale, part.threshold, _described(part)) if part.generated else ""
    return (
        f'<tr><th scope="row">{isolated(part.name)}{bare}</th>'
        f"{number_cell(part.samples)}{number_cell(part.wanted)}{number_cell(part.covered)}{number_cell(part.generated)}"
        f"{number_cell(part.discarded)}{percent_cell(part.discarded_percent)}"
        f"{value_cell(part.threshold, similarity(part.threshold))}<td>{spark}</td></tr>"
    )


def _described(part: ClassReport) -> str:
    return f"S of {part.name}: {count(part.accepted)} accepted, {count(part.discarded)} discarded."


def _class_scale(parts: list[ClassReport], most_bars: int) -> Scale:
    return common_scale([part.histogram for part in parts], [part.threshold for part in parts], most_bars)


def _concern(part: ClassReport) -> tuple[bool, float]:
    discarded = part.discarded_percent
    return part.wanted > 0 and not part.covered, -1.0 if math.isnan(discarded) else discarded
