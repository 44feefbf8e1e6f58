"""A whole run from what a user asks for: checks first, then the filter, then the model, and only then the store."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from diffcore_gpu.generation.filter import ClipSimilarity
from diffcore_gpu.generation.growth import plan_growth
from diffcore_gpu.generation.loop import GenerationListener, generate
from diffcore_gpu.generation.model_loading import check_model, load_text_to_image, quiet_libraries
from diffcore_gpu.generation.report.folder import ReportFolder
from diffcore_gpu.generation.report.page import write_store_page
from diffcore_gpu.generation.report.records import GenerationReport
from diffcore_gpu.generation.settings import FilterOptions, GenerationSettings, ModelOptions
from diffcore_gpu.generation.work import (
    FILTER_KEY,
    MODEL_KEY,
    check_appendable,
    check_contents,
    check_place,
    check_resumable,
    plan_work,
)
from diffcore_gpu.packing.imagefolder import ImageFolderScan, scan_image_folder
from diffcore_gpu.store import CounterpartStore
from diffcore_gpu.store.growth.staging import settle


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
        append: add what the store that is there lacks of a larger fraction, or of more for each sample.
    """

    real: Path
    out: Path
    settings: GenerationSettings
    model: ModelOptions
    similarity: FilterOptions = field(default_factory=FilterOptions)
    resume: bool = False
    overwrite: bool = False
    append: bool = False


def run_request(
    request: GenerationRequest, listener: GenerationListener | None = None
) -> tuple[GenerationReport, Path]:
    """Generate a store and write the page of its report.

    Args:
        request: what to do.
        listener: is told what happens.

    Returns:
        The report, and the path of its page.

    Raises:
        GenerationError, PackError, StoreError: as `generate`; what can be checked is checked before a model is loaded.
    """
    listener = listener or GenerationListener()
    scan = scan_image_folder(request.real)
    work = plan_work(scan, request.settings)
    if request.append:
        settle(request.out)
    check_place(work, request.out, resume=request.resume, overwrite=request.overwrite, append=request.append)
    check_model(request.model)
    options = {"gamma": request.model.gamma, "steps": request.model.steps, "negative_prompt": request.model.negative}
    known = {**request.settings.as_json(), MODEL_KEY: options}
    if request.append:
        check_appendable(work, request.out, known)
        plan_growth(work, request.out)
    if request.resume:
        check_resumable(work, request.out, known, append=request.append)
    with quiet_libraries():
        similarity = ClipSimilarity(
            request.similarity, out=request.out, device=request.model.device, seed=request.settings.seed
        )
        similarity_filter = similarity.filter(scan, listener.embedded, listener.say)
        judged_by = {FILTER_KEY: {"model": similarity_filter.model}}
        if request.append:
            check_appendable(work, request.out, judged_by)
        if request.resume:
            check_resumable(work, request.out, judged_by, append=request.append)
        if request.resume or request.append:
            check_contents(work, request.out, similarity_filter.contents)
        listener.say(f"Loading {request.model.model} …")
        text_to_image = load_text_to_image(request.model, listener.say)
    report = generate(
        work,
        request.out,
        text_to_image,
        similarity_filter,
        listener,
        resume=request.resume,
        overwrite=request.overwrite,
        append=request.append,
    )
    return report, _write_page(request, scan)


def _write_page(request: GenerationRequest, scan: ImageFolderScan) -> Path:
    store = CounterpartStore.open(request.out)
    negative = request.settings.prompts.render_negative if request.model.negative else lambda class_name: ""
    return write_store_page(
        store,
        scan,
        ReportFolder.beside(request.out),
        render=lambda prompt_id, class_name: (store.prompts[prompt_id], negative(class_name)),
    )
