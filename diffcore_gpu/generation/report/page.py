"""The page of a generation run: which images it shows, and its one file; `views` says what of the report it shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from PIL import Image
from torch import Tensor

from diffcore_gpu.errors import GenerationError
from diffcore_gpu.generation.report import text, views
from diffcore_gpu.generation.report.folder import ReportFolder, shrink, shrink_file
from diffcore_gpu.generation.report.records import Candidate, GenerationReport
from diffcore_gpu.generation.report.tally import StratifiedChoice
from diffcore_gpu.generation.report.views import Shown
from diffcore_gpu.htmlreport.images import embed
from diffcore_gpu.htmlreport.page import render
from diffcore_gpu.packing.imagefolder import ImageFolderScan
from diffcore_gpu.store import CounterpartStore
from diffcore_gpu.store.durable import named_os_errors, replace_file

MAX_PAIRS = 120
"""Accepted images that a page shows by default."""
MAX_DISCARDS = 60
"""Discarded images that a page shows by default."""

RenderPrompts = Callable[[int, str], tuple[str, str]]
"""From a prompt's id and a class name to the contextual and the negative prompt as the model got them."""
_TOLD = (
    *(text.count, text.counted, text.percent, text.similarity, text.difference, text.duration),
    *(text.speed_text, text.is_filtered, text.remarks),
)
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
    pairs, discards = ([_shown(report, item) for item in choices[accepted]] for accepted in (True, False))
    page = render(
        "diffcore_gpu.generation.report",
        "generation.html",
        functions={function.__name__: function for function in _TOLD},
        scripted=True,
        title=title,
        report=report,
        views=views,
        yardstick=text.YARDSTICK,
        nan=math.nan,
        pairs=views.pairs(report, pairs, offered[True]),
        discards=views.discards(report, discards, offered[False]),
        negative_prompts=views.negative_prompts(item.candidate for item in (*pairs, *discards)),
    )
    with named_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, page.encode())


def _shown(report: GenerationReport, item: _Offered) -> Shown:
    candidate, real, image = item
    picture = shrink_file(image) if isinstance(image, Path) else image
    return Shown(candidate, report.classes[candidate.label], embed(shrink_file(real, picture.size)), embed(picture))


def write_store_page(
    store: CounterpartStore,
    real: ImageFolderScan,
    folder: ReportFolder,
    *,
    render: RenderPrompts | None = None,
    title: str | None = None,
) -> Path:
    """Write `folder.page` anew from a finished store; the real images are read where they lie.

    Args:
        store: the store, images of 1 or 3 channels.
        real: the dataset that it was made for.
        folder: the report folder of the run that made it.
        render: fills in the prompts; None: the texts that the store has for them are shown, and no negative ones.
        title: of the page; None: the name of the store's folder.

    Returns:
        The page's path.

    Raises:
        StoreError: the store is of another dataset than `real`, or the page cannot be written.
        GenerationError: the folder has no report, or that of another dataset; or an image file is missing or damaged.
    """
    store.bind(real.labels, labels=real.labels, file_names=real.file_names)
    report = folder.read()
    if len(report.classes) != len(real.class_names):
        raise GenerationError(
            f"{folder.path} is of another dataset: it has {len(report.classes)} classes, and {real.root} has "
            f"{len(real.class_names)}."
        )
    candidates = _candidates(store, real, folder, render)
    write_page(folder.page, report, candidates, title=title or f"Generation report: {store.path.name}")
    return folder.page


def _candidates(
    store: CounterpartStore, real: ImageFolderScan, folder: ReportFolder, render: RenderPrompts | None
) -> Iterator[tuple[Candidate, Path, Path | Tensor]]:
    """The discards, and every pair of the store with its image as a view that is not read before it is used."""
    for candidate, file in folder.discards():
        if not 0 <= candidate.sample < len(real) or real.labels[candidate.sample] != candidate.label:
            raise GenerationError(f"{file} is of another dataset than {real.root}; delete it.")
        yield candidate, real.path(candidate.sample), file
    seeds, attempts, prompts = store.row_seed().tolist(), store.row_attempt().tolist(), store.row_prompt().tolist()
    for sample in range(store.num_samples):
        label = real.labels[sample]
        for row, similarity in zip(store.rows(sample).tolist(), store.similarities(sample).tolist(), strict=True):
            prompt_id = prompts[row]
            if prompt_id < 0:
                prompt, negative = "", ""
            elif render is None:
                prompt, negative = store.prompts[prompt_id], ""
            else:
                prompt, negative = render(prompt_id, store.class_names[label])
            candidate = Candidate(
                *(sample, label, attempts[row], seeds[row], prompt, negative, similarity, True), prompt_id=prompt_id
            )
            yield candidate, real.path(sample), store.image(row)
