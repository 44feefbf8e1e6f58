"""The page of a finished store: its pairs from the store, its figures and discards from the folder beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from torch import Tensor

from diffcore_gpu.generation.report.folder import ReportFolder
from diffcore_gpu.generation.report.page import write_page
from diffcore_gpu.generation.report.records import Candidate
from diffcore_gpu.packing.imagefolder import ImageFolderScan
from diffcore_gpu.store import CounterpartStore

RenderPrompts = Callable[[int, str], tuple[str, str]]
"""From a prompt's id and a class name to the contextual and the negative prompt as the model got them."""


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
        GenerationError: the folder has no report, or an image file is missing or damaged.
    """
    store.bind(real.labels, labels=real.labels, file_names=real.file_names)
    report = folder.read()
    candidates = _candidates(store, real, folder, render)
    write_page(folder.page, report, candidates, title=title or f"Generation report: {store.path.name}")
    return folder.page


def _candidates(
    store: CounterpartStore, real: ImageFolderScan, folder: ReportFolder, render: RenderPrompts | None
) -> Iterator[tuple[Candidate, Path, Path | Tensor]]:
    """The discards, and every pair of the store with its image as a view that is not read before it is used."""
    for candidate, file in folder.discards():
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
