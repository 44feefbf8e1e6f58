"""Sections of the report's page: headline figures, warnings, discards, time per stage, settings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from diffcore_gpu.generation.report.records import GenerationReport
from diffcore_gpu.generation.report.text import (
    YARDSTICK,
    count,
    counted,
    duration,
    is_filtered,
    percent,
    plain_value,
    remarks,
    speed_text,
)
from diffcore_gpu.htmlreport.chart import stage_bar
from diffcore_gpu.htmlreport.page import escaped, isolated

_SETTING_NAMES = {
    "gamma": "guidance γ (eq. 4)",
    "w": "guidance w = 1 + γ",
    "guidance_scale": "guidance w = 1 + γ",
    "vae": "VAE",
}

_HOW_TO_READ = (
    "Where τ is measured, it is the mean similarity of two different real images of the class (eq. 5), so about half "
    "of all pairs of real images lie below it as well: a generator whose images were real ones would lose about as "
    "many. The shares in Figs. 7 and 8 of the paper are no yardstick for this: the code that its authors published "
    "discards by another rule, at a similarity of 0.6 to the first image of the class, and draws no image again."
)


def headline(report: GenerationReport) -> str:
    """The figures that a reader looks for first."""
    of_wanted = f"{percent(_percent(report.total.covered, report.total.wanted))} of {count(report.total.wanted)} wanted"
    cards = (
        ("Samples", count(report.total.samples), f"in {counted(len(report.classes), 'class')}"),
        ("Covered samples", count(report.total.covered), of_wanted),
        ("Generated", count(report.total.generated), f"{count(report.total.accepted)} accepted"),
        ("Discarded", percent(report.total.discarded_percent), YARDSTICK if is_filtered(report) else "not filtered"),
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
    """The discards and how to read them, and where the time went."""
    return (
        '<section id="cost"><h2>Discards and time</h2><div class="two">'
        f"{_discards(report)}{_stages(report)}</div></section>"
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


def _discards(report: GenerationReport) -> str:
    share = f"{percent(report.total.discarded_percent)} of {counted(report.total.generated, 'generated image')}."
    note = _HOW_TO_READ if is_filtered(report) else "The images were not filtered."
    return f'<div class="card"><h3>Discarded</h3><p>{escaped(share)}</p><p class="note">{escaped(note)}</p></div>'


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
