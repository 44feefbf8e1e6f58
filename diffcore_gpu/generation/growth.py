"""A run that makes more counterparts for a store that earlier runs have made: which of them are settled already.

A larger fraction chooses a superset of samples and a larger number per sample keeps the copies before it, and what
comes of a counterpart depends on its sample, its copy and the seed alone. So a store that grew has the counterparts of
one that was made at once, in another order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffcore_gpu.errors import GenerationError
from diffcore_gpu.generation.draws import Int64s
from diffcore_gpu.generation.recorder import JOURNAL_KEY
from diffcore_gpu.generation.settings import MAX_PER_SAMPLE
from diffcore_gpu.generation.work import Work, plan_work
from diffcore_gpu.store.format import MANIFEST_NAME
from diffcore_gpu.store.manifest import read_manifest

RUNS_KEY = "runs"
"""In the store's metadata: of each run before the last the fraction, the number per sample, and the images in the
journal at its end."""


class EarlierRun(NamedTuple):
    """A run that has made a part of the store.

    Attributes:
        work: what it had to do.
        images: records of the journal at its end.
    """

    work: Work
    images: int


class Growth(NamedTuple):
    """What a run has to do for a store that is there.

    Attributes:
        earlier: the runs before it.
        work: what they have left to it.
        runs: the metadata of the runs before it, see `RUNS_KEY`.
    """

    earlier: list[EarlierRun]
    work: Work
    runs: list[dict[str, Any]]


def no_growth(work: Work) -> Growth:
    """A run that begins a store."""
    return Growth([], work, [])


def plan_growth(work: Work, out: Path) -> Growth:
    """Leave out what earlier runs have settled: made, or given up.

    Args:
        work: what is wanted in all.
        out: the finished store that is to grow.

    Raises:
        GenerationError: the store was not made by `diffcore generate` alone, or for more than is wanted now.
    """
    manifest, _ = read_manifest(out / MANIFEST_NAME)
    metadata = manifest.metadata
    for entry in manifest.history:
        if entry.get("operation") in ("merge", "rebind"):
            what = "merged of others" if entry["operation"] == "merge" else "bound to another dataset"
            raise GenerationError(
                f"{out} was {what}, so its counterparts are not those of one run; generate another store with another "
                "--seed, and merge both."
            )
    try:
        runs = [*metadata.get(RUNS_KEY, []), _run(metadata)]
    except (KeyError, TypeError) as error:
        raise GenerationError(
            f"{out} was not made by `diffcore generate`, which can only add to its own stores."
        ) from error
    settled = np.empty(0, np.int64)
    earlier = []
    for run in runs:
        settings = replace(work.settings, fraction=run["fraction"], per_sample=run["per_sample"])
        if settings.fraction > work.settings.fraction or settings.per_sample > work.settings.per_sample:
            raise GenerationError(
                f"{out} was made with fraction {settings.fraction:g} and {settings.per_sample} per sample, which is "
                f"more than {work.settings.fraction:g} and {work.settings.per_sample}; a store only grows."
            )
        part = _without(plan_work(work.real, settings), settled)
        settled = np.union1d(settled, _codes(part))
        earlier.append(EarlierRun(part, int(run["images"])))
    return Growth(earlier, _without(work, settled), runs)


def _run(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What `RUNS_KEY` will hold of the run that ended with these metadata."""
    return {
        "fraction": metadata["fraction"],
        "per_sample": metadata["per_sample"],
        "images": metadata[JOURNAL_KEY]["images"],
    }


def _codes(work: Work) -> Int64s:
    """A number for each task that says its sample and copy."""
    return work.samples * MAX_PER_SAMPLE + work.copies


def _without(work: Work, settled: Int64s) -> Work:
    left = ~np.isin(_codes(work), settled)
    return replace(work, samples=work.samples[left], copies=work.copies[left])
