"""Sections of the report's page: headline figures, warnings, the paper's discards, time per stage, settings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from diffcore_gpu.generation.page_chart import range_bar, stage_bar
from diffcore_gpu.generation.page_text import escaped, isolated
from diffcore_gpu.generation.report import PAPER_DISCARDS, GenerationReport
from diffcore_gpu.generation.report_figures import count, counted, duration, percent, plain_value
from diffcore_gpu.generation.report_text import paper_text, remarks, speed_text

_SETTING_NAMES = {
    "gamma": "guidance γ (eq. 4)",
    "w": "guidance w = 1 + γ",
    "guidance_scale": "guidance w = 1 + γ",
    "vae": "VAE",
}


def headline(report: GenerationReport) -> str:
    """The figures that a reader looks for first."""
    of_wanted = f"{percent(_percent(report.covered, report.wanted))} of {count(report.wanted)} wanted"
    cards = (
        ("Samples", count(report.samples), f"in {counted(len(report.classes), 'class')}"),
        ("Covered samples", count(report.covered), of_wanted),
        ("Generated", count(report.generated), f"{count(report.accepted)} accepted"),
        ("Discarded", percent(report.discarded_percent), f"paper: {paper_text()}"),
        ("Time per image", duration(report.seconds_per_image), speed_text(report)),
    )
    items = "".join(
        f'<div class="card"><dt>{name}</dt><dd><div class="figure">{figure}</div>'
        f'<div class="note">{escaped(detail)}</div></dd></div>'
        for name, figure, detail in cards
    )
    return f'<dl class="cards">{items}</dl>'


def warnings(report: GenerationReport) -> str:
    """What needs a look, before anything else is read; nothing where all is well."""
    lines = "".join(f"<p>⚠ {escaped(remark)}</p>" for remark in remarks(report))
    return f'<div class="warn" role="note">{lines}</div>' if lines else ""


def cost(report: GenerationReport) -> str:
    """Discards beside the paper's, and where the time went."""
    return (
        '<section id="cost"><h2>Discards and time</h2><div class="two">'
        f"{_discards_beside_paper(report)}{_stages(report)}</div></section>"
    )


def settings(report: GenerationReport, negative_prompts: list[str]) -> str:
    """How the images were made and judged."""
    parts = ['<section id="settings"><h2>Settings</h2><div class="two">']
    for name, values in (("Model", report.model), ("Run and filter", report.settings)):
        if values:
            parts.append(f'<div class="card"><h3>{name}</h3><dl class="settings">{_items(values)}</dl></div>')
    parts.append("</div>")
    if negative_prompts:
        texts = "".join(f"<li>{isolated(text)}</li>" for text in negative_prompts)
        parts.append(f"<details><summary>Negative prompts of the images shown</summary><ul>{texts}</ul></details>")
    return "".join((*parts, "</section>"))


def _discards_beside_paper(report: GenerationReport) -> str:
    own = report.discarded_percent
    most = 1.1 * max(*(known.high for known in PAPER_DISCARDS), 0.0 if math.isnan(own) else own)
    rows = []
    if not math.isnan(own):
        bar = range_bar(own, own, most, "own-range")
        rows.append(
            f'<tr class="own"><th scope="row">this run</th><td class="bar-cell">{bar}</td>'
            f'<td class="value">{percent(own)}</td></tr>'
        )
    for known in PAPER_DISCARDS:
        bar = range_bar(known.low, known.high, most, "paper-range")
        rows.append(
            f'<tr><th scope="row">{escaped(known.dataset)}, paper</th><td class="bar-cell">{bar}</td>'
            f'<td class="value">{escaped(known.text)}</td></tr>'
        )
    sources = "; ".join(f"{known.dataset}: {known.source}" for known in PAPER_DISCARDS)
    return (
        '<div class="card"><h3>Discarded, in percent of the images generated</h3><table class="compare">'
        f"<tbody>{''.join(rows)}</tbody></table>"
        f'<details><summary>Sources</summary><p class="note">{escaped(sources)}.</p></details></div>'
    )


def _stages(report: GenerationReport) -> str:
    shares = report.stage_shares
    if not shares:
        return '<div class="card"><h3>Time by stage</h3><p class="note">The stages were not timed.</p></div>'
    key = "".join(
        f'<li><svg aria-hidden="true"><rect class="stage-{number % 6}" width="100%" height="100%"/></svg>'
        f"{escaped(stage)} {percent(100 * share)}"
        f' <span class="note">({duration(report.seconds[stage])})</span></li>'
        for number, (stage, share) in enumerate(shares.items())
    )
    timed = f"{count(report.timed_images)} images in {duration(report.wall_seconds)}"
    return (
        f'<div class="card"><h3>Time by stage</h3>{stage_bar(shares)}<ul class="key">{key}</ul>'
        f'<p class="note">{timed}. Stages that overlap are counted each; together they may exceed that.</p></div>'
    )


def _items(values: Mapping[str, Any]) -> str:
    return "".join(
        f"<div><dt>{escaped(_SETTING_NAMES.get(name, name.replace('_', ' ')))}</dt>"
        f"<dd>{isolated(plain_value(value))}</dd></div>"
        for name, value in _flat(values)
    )


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Groups of settings one by one: ``prompts: {name: bird}`` is ``prompts name: bird``."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name} ")
        else:
            yield above + name, value


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else math.nan
