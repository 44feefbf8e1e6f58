"""A whole run from what a user asks for: checks first, then the filter, then the model, and only then the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from diffcore_gpu.errors import GenerationError
from diffcore_gpu.generation.embedding import load_embedder
from diffcore_gpu.generation.embedding_cache import CACHE_NAME, real_embeddings
from diffcore_gpu.generation.filter import SimilarityFilter, choose_thresholds
from diffcore_gpu.generation.loop import GenerationListener, generate
from diffcore_gpu.generation.model_loading import check_model, load_text_to_image, resolve_device
from diffcore_gpu.generation.model_options import ModelOptions
from diffcore_gpu.generation.quiet import quiet_libraries
from diffcore_gpu.generation.report.folder import ReportFolder
from diffcore_gpu.generation.report.page_from_store import write_store_page
from diffcore_gpu.generation.report.records import GenerationReport
from diffcore_gpu.generation.resumption import FILTER_KEY, MODEL_KEY, check_resumable
from diffcore_gpu.generation.settings import GenerationSettings
from diffcore_gpu.generation.work import Work, check_place, plan_work
from diffcore_gpu.packing.imagefolder import ImageFolderScan, scan_image_folder
from diffcore_gpu.store import CounterpartStore

DEFAULT_FILTER = "ViT-B-32"


@dataclass(frozen=True)
class FilterOptions:
    """The model that measures similarity, and where its thresholds come from.

    Attributes:
        model: a model of open_clip by name, or a folder with one.
        weights: the name of its pretrained weights, or a .safetensors file; None: the usual ones.
        threshold: τ of every class, in [−1, 1]; None: measured on the real images.
        pairs_per_class: estimate each τ from so many pairs, as the paper does; None: exactly, from all pairs.

    Raises:
        GenerationError: a number is out of its range, or both are given.
    """

    model: str = DEFAULT_FILTER
    weights: str | None = None
    threshold: float | None = None
    pairs_per_class: int | None = None

    def __post_init__(self) -> None:
        if self.threshold is not None and not -1 <= self.threshold <= 1:
            raise GenerationError(f"threshold is {self.threshold:g}; a cosine similarity lies in [-1, 1].")
        if self.pairs_per_class is not None and self.pairs_per_class < 1:
            raise GenerationError(f"pairs_per_class is {self.pairs_per_class}; it must be at least 1.")
        if self.threshold is not None and self.pairs_per_class is not None:
            raise GenerationError("A threshold was given, so there is none to sample: leave out one of the two.")


@dataclass(frozen=True)
class GenerationRequest:
    """What to generate, for what, and with which models.

    Attributes:
        real: the real images, an ImageFolder.
        out: the store's folder.
        settings: for which samples, and from which prompts.
        model: the text-to-image model.
        similarity: the filter's model; it runs on the text-to-image model's device.
        resume: go on where an interrupted run stopped.
        overwrite: replace the store that is there.
    """

    real: Path
    out: Path
    settings: GenerationSettings
    model: ModelOptions
    similarity: FilterOptions = field(default_factory=FilterOptions)
    resume: bool = False
    overwrite: bool = False


def run_request(
    request: GenerationRequest,
    listener: GenerationListener | None = None,
    embedded: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[GenerationReport, Path]:
    """Generate a store and write the page of its report.

    Args:
        request: what to do.
        listener: is told what happens.
        embedded: gets (done, total) of the real images whose embeddings were computed.

    Returns:
        The report, and the path of its page.

    Raises:
        GenerationError, PackError, StoreError: as `generate`; what can be checked is checked before a model is loaded.
    """
    listener = listener or GenerationListener()
    scan = scan_image_folder(request.real)
    work = plan_work(scan, request.settings)
    check_place(work, request.out, resume=request.resume, overwrite=request.overwrite)
    check_model(request.model)
    if request.resume:
        known = {"gamma": request.model.gamma, "steps": request.model.steps, "negative_prompt": request.model.negative}
        check_resumable(work, request.out, {**request.settings.as_json(), MODEL_KEY: known})
    with quiet_libraries():
        similarity_filter = _load_filter(request, work, embedded, listener.say)
        if request.resume:
            check_resumable(work, request.out, {FILTER_KEY: {"model": similarity_filter.model}})
        listener.say(f"Loading {request.model.model} …")
        text_to_image = load_text_to_image(request.model, listener.say)
    report = generate(
        scan,
        request.out,
        request.settings,
        text_to_image,
        similarity_filter,
        listener,
        resume=request.resume,
        overwrite=request.overwrite,
    )
    return report, _write_page(request, scan)


def _load_filter(
    request: GenerationRequest, work: Work, embedded: Callable[[int, int], None], say: Callable[[str], None]
) -> SimilarityFilter:
    options, scan = request.similarity, work.real
    embedder = load_embedder(options.model, options.weights, device=str(resolve_device(request.model.device)))
    cache = ReportFolder.beside(request.out).path / CACHE_NAME
    real = real_embeddings(embedder, scan, cache, embedded, say)
    labels = torch.from_numpy(work.labels)
    thresholds = choose_thresholds(
        real,
        labels,
        len(scan.class_names),
        real=scan.root,
        threshold=options.threshold,
        pairs_per_class=options.pairs_per_class,
        seed=request.settings.seed,
    )
    return SimilarityFilter(embedder, real, labels, thresholds)


def _write_page(request: GenerationRequest, scan: ImageFolderScan) -> Path:
    store = CounterpartStore.open(request.out)
    negative = request.settings.prompts.render_negative if request.model.negative else lambda class_name: ""
    return write_store_page(
        store,
        scan,
        ReportFolder.beside(request.out),
        render=lambda prompt_id, class_name: (store.prompts[prompt_id], negative(class_name)),
    )
