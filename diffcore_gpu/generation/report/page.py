"""The report of a generation run as one HTML file that needs nothing else: no network, no fonts, no framework."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterable
from pathlib import Path

from PIL import Image
from torch import Tensor

from diffcore_gpu.generation.report import page_gallery, page_sections, views
from diffcore_gpu.generation.report.folder import shrink, shrink_file
from diffcore_gpu.generation.report.page_gallery import Shown
from diffcore_gpu.generation.report.page_script import SCRIPT
from diffcore_gpu.generation.report.page_style import STYLE
from diffcore_gpu.generation.report.records import Candidate, GenerationReport
from diffcore_gpu.generation.report.tally import StratifiedChoice
from diffcore_gpu.generation.report.text import count, counted, percent
from diffcore_gpu.htmlreport.page import escaped
from diffcore_gpu.store.durable import named_os_errors, replace_file

MAX_PAIRS = 120
"""Accepted images that a page shows by default."""
MAX_DISCARDS = 60
"""Discarded images that a page shows by default."""
_NEGATIVE_PROMPTS = 8

_Offered = tuple[Candidate, Path, "Path | Image.Image"]


def write_page(
    path: str | Path,
    report: GenerationReport,
    candidates: Iterable[tuple[Candidate, Path, Path | Tensor]],
    *,
    title: str = "Generation report",
    max_pairs: int = MAX_PAIRS,
    max_discards: int = MAX_DISCARDS,
) -> None:
    """Write the page: figures, settings, histograms with τ, tables of classes and prompts, pairs and discards.

    The figures are the report's. Of the candidates a bounded choice is shown, spread over the classes, which depends on
    the set of candidates and not on their order; the same input gives the same bytes. With the default limits the file
    stays under 8 MB, whatever the size of the run. The file appears whole or not at all.

    Args:
        path: the HTML file; its folder is made.
        report: what is shown.
        candidates: any number of (candidate, file of its real image, its own image as a file or as uint8 [3, H, W] on
            the CPU). They are read once, and an image is looked at only if it is shown: offer views of a memory-mapped
            store rather than copies. Real images are cut to the shape of the candidate's.
        title: of the page.
        max_pairs: accepted candidates shown at most.
        max_discards: discarded candidates shown at most.

    Raises:
        GenerationError: an image file is missing or damaged.
        ValueError: a candidate is of a class that the report does not have, or has no similarity, or its tensor is no
            image.
        StoreError: the file cannot be written.
    """
    path = Path(path)
    choices = {True: StratifiedChoice[_Offered](max_pairs), False: StratifiedChoice[_Offered](max_discards)}
    offered = {True: 0, False: 0}
    for candidate, real, image in candidates:
        if not 0 <= candidate.label < len(report.classes):
            raise ValueError(
                f"sample {candidate.sample} is of class {candidate.label}, which the report does not have."
            )
        if not math.isfinite(candidate.similarity):
            raise ValueError(f"the similarity of sample {candidate.sample} is {candidate.similarity}, not a number.")
        offered[candidate.accepted] += 1
        choice = choices[candidate.accepted]
        key = f"{candidate.sample:012d}-{candidate.attempt}-{candidate.seed}"
        if choice.wants(candidate.label, key):
            small = image if isinstance(image, Path) else shrink(image)
            choice.add(candidate.label, key, (candidate, real, small))
    pairs, discards = ([_shown(item) for item in choices[accepted]] for accepted in (True, False))
    page = _assemble(
        report,
        title,
        page_gallery.pairs(report, pairs, offered[True]),
        page_gallery.discards(report, discards, offered[False]),
        _negative_prompts((*pairs, *discards)),
    )
    with named_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, page.encode())


def _shown(item: _Offered) -> Shown:
    candidate, real, image = item
    picture = shrink_file(image) if isinstance(image, Path) else image
    return Shown(candidate, shrink_file(real, picture.size), picture)


def _negative_prompts(shown: Iterable[Shown]) -> list[str]:
    texts = sorted({item.candidate.negative_prompt for item in shown} - {""})
    more = len(texts) - _NEGATIVE_PROMPTS
    return [*texts[:_NEGATIVE_PROMPTS], f"… and {count(more)} more"] if more > 0 else texts


def _assemble(report: GenerationReport, title: str, pairs: str, discards: str, negative_prompts: list[str]) -> str:
    sections = [
        ("cost", "Discards and time", page_sections.cost(report)),
        ("similarities", "Similarities", views.similarities(report)),
        ("classes", "Classes", views.classes(report)),
        ("prompts", "Prompts", views.prompts(report)),
        ("pairs-section", "Pairs", pairs),
        ("discards-section", "Discarded images", discards),
        ("never-passed", "Never passed", views.never_passed(report)),
        ("settings", "Settings", page_sections.settings(report, negative_prompts)),
    ]
    links = "".join(f'<li><a href="#{name}">{heading}</a></li>' for name, heading, content in sections if content)
    body = "".join(content for _, _, content in sections)
    # Nothing may be loaded, and no script may run but the page's own: whatever text found its way into the page.
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(STYLE)}'; script-src '{_hash(SCRIPT)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escaped(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<div class="wrap"><header><h1>{escaped(title)}</h1><p class="lead">{_lead(report)}</p>'
        f'{page_sections.warnings(report)}<nav aria-label="Sections"><ul>{links}</ul></nav></header>\n'
        f"<main>{page_sections.headline(report)}{body}</main>\n"
        "<footer>Written by diffcore-gpu. This file loads nothing from the network.</footer></div>\n"
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _lead(report: GenerationReport) -> str:
    total = report.total
    if not total.generated:
        return f"No image was generated for {counted(total.samples, 'sample')}."
    return (
        f"{count(total.covered)} of {counted(total.samples, 'sample')} ({percent(100 * total.coverage)}) have a "
        f"counterpart. The filter discarded {percent(total.discarded_percent)} of "
        f"{counted(total.generated, 'generated image')}."
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
