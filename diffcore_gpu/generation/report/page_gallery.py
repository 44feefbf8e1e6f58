"""Galleries of the report's page: real image and candidate side by side, with what the filter said."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from diffcore_gpu.generation.report.folder import data_uri, is_crisp
from diffcore_gpu.generation.report.records import Candidate, GenerationReport
from diffcore_gpu.generation.report.text import count, counted, difference, similarity
from diffcore_gpu.htmlreport.page import escaped, isolated


@dataclass(frozen=True)
class Shown:
    """One figure of a gallery.

    Attributes:
        candidate: what is known of it.
        real: thumbnail of the real image.
        image: thumbnail of the generated one, of the same size.
    """

    candidate: Candidate
    real: Image.Image
    image: Image.Image


def pairs(report: GenerationReport, shown: Sequence[Shown], available: int) -> str:
    """The gallery of accepted images, the most similar first.

    Args:
        report: the report.
        shown: what the gallery shows.
        available: how many images were offered to it.
    """
    note = _note(len(shown), max(available, report.total.accepted), "pair", "The most similar come first.")
    ordered = sorted(shown, key=lambda item: (-item.candidate.similarity, _place(item)))
    return _gallery(report, ordered, "pairs", "Pairs", "counterpart", note)


def discards(report: GenerationReport, shown: Sequence[Shown], available: int) -> str:
    """The gallery of discarded images, the most similar first; see `pairs`."""
    note = _note(len(shown), max(available, report.total.discarded), "discarded image", "The most similar come first.")
    ordered = sorted(shown, key=lambda item: (-item.candidate.similarity, _place(item)))
    return _gallery(report, ordered, "discards", "Discarded images", "discarded", note)


def _note(shown: int, total: int, noun: str, order: str) -> str:
    if not total:
        return f"There is no {noun}."
    if not shown:
        return f"None of the {counted(total, noun)} was kept for this page."
    if shown < total:
        return f"{count(shown)} of {counted(total, noun)}, chosen evenly over the classes. {order}"
    return f"All {counted(total, noun)}. {order}" if total > 1 else f"The only {noun}."


def _gallery(report: GenerationReport, shown: Sequence[Shown], name: str, title: str, role: str, note: str) -> str:
    figures = "".join(_figure(report, item, role) for item in shown)
    tools = _tools(report, shown, name) if len(shown) > 1 else ""
    return (
        f'<section id="{name}-section"><h2>{title}</h2><p class="note">{note}</p>{tools}'
        f'<ul class="gallery" id="{name}">{figures}</ul></section>'
    )


def _tools(report: GenerationReport, shown: Sequence[Shown], name: str) -> str:
    labels = sorted({item.candidate.label for item in shown})
    options = "".join(f'<option value="{label}">{escaped(report.classes[label].name)}</option>' for label in labels)
    return (
        f'<div class="tools" data-gallery="{name}" hidden><label>Order <select>'
        '<option value="similarity -1">most similar first</option>'
        '<option value="similarity 1">least similar first</option>'
        '<option value="margin 1">smallest S − τ first</option>'
        '<option value="margin -1">largest S − τ first</option>'
        '<option value="sample 1">by sample</option></select></label>'
        f'<label>Class <select><option value="">all</option>{options}</select></label>'
        f'<output aria-live="polite">{count(len(shown))} shown</output></div>'
    )


def _figure(report: GenerationReport, item: Shown, role: str) -> str:
    candidate = item.candidate
    part = report.classes[candidate.label]
    margin = candidate.similarity - part.threshold
    score = f"<b>S {similarity(candidate.similarity)}</b>"
    if not math.isnan(margin):
        verdict, sign = ("passed", "&gt;") if candidate.accepted else ("failed", "≤")
        score += f' {sign} τ {similarity(part.threshold)} <span class="{verdict}">({difference(margin)})</span>'
    real = _image(item.real, f"real image, sample {candidate.sample}, {part.name}")
    other = _image(item.image, f"{role}, sample {candidate.sample}, {part.name}")
    return (
        f'<li data-label="{candidate.label}" data-sample="{candidate.sample}" '
        f'data-similarity="{candidate.similarity:.6f}" data-margin="{0.0 if math.isnan(margin) else margin:.6f}">'
        f'<figure class="card pair"><div class="pictures"><div>{real}<span>real</span></div>'
        f"<div>{other}<span>{role}</span></div></div>"
        f"<figcaption><h3>{isolated(part.name)}</h3>"
        f'<p class="score">{score}</p>'
        f'<p class="quote">“{isolated(candidate.prompt)}”</p>'
        f'<p class="origin">sample {candidate.sample} · attempt {candidate.attempt + 1} · seed {candidate.seed}</p>'
        "</figcaption></figure></li>"
    )


def _image(picture: Image.Image, text: str) -> str:
    crisp = ' class="crisp"' if is_crisp(picture) else ""
    return (
        f'<img{crisp} src="{data_uri(picture)}" alt="{escaped(text)}" width="{picture.width}" '
        f'height="{picture.height}" loading="lazy" decoding="async">'
    )


def _place(item: Shown) -> tuple[int, int]:
    return item.candidate.sample, item.candidate.attempt
