"""Generation time and discards against the share of the samples that get counterparts: Figs. 7 and 8 of the paper.

With ``--model digits`` the demo's trained models generate for real digits, and their filter discards for real. With
``--model sdxl`` denoiser, autoencoder and text encoders have the sizes of Stable Diffusion XL and random weights: the
arithmetic and so the time are the same, the images are noise, and so everything is accepted (τ = −1, with a ViT-B/32 of
random weights as the filter); discards then mean nothing and are not shown.

    diffcore bench generation --model digits --json benchmarks/results/DEVICE/generation.json
    diffcore bench generation --model sdxl --device cuda --percent 50 100 --per-class 2 --json …
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from diffcore_gpu.benchmarks.generation.sdxl import random_sdxl
from diffcore_gpu.benchmarks.harness import options
from diffcore_gpu.benchmarks.harness.command import Output, output_of
from diffcore_gpu.benchmarks.harness.measure import table
from diffcore_gpu.benchmarks.harness.runs import Run
from diffcore_gpu.demo import digits
from diffcore_gpu.demo.model_checks import GAMMA, MODELS, STEPS, text_to_image_options
from diffcore_gpu.demo.pretraining.batches import SPLIT_SEED
from diffcore_gpu.generation.embedding import load_embedder, real_embeddings
from diffcore_gpu.generation.filter import SimilarityFilter, class_thresholds
from diffcore_gpu.generation.loop import generate
from diffcore_gpu.generation.model_loading import load_text_to_image, quiet_libraries
from diffcore_gpu.generation.prompts import BUILT_IN
from diffcore_gpu.generation.report.records import GenerationReport
from diffcore_gpu.generation.settings import GenerationSettings
from diffcore_gpu.generation.text_to_image import DiffusersTextToImage
from diffcore_gpu.generation.work import plan_work
from diffcore_gpu.packing.imagefolder import ImageFolderScan, scan_image_folder

STAGES = ("denoiser", "vae", "other", "filter", "write", "wait")
PERCENT = list(range(10, 101, 10))


@dataclass(frozen=True)
class Settings:
    """What the samples of a run depend on, as its options name it."""

    model: str
    per_class: int
    batch: int
    steps: int
    size: int
    tiny: bool


def real_digits(folder: Path, per_class: int) -> ImageFolderScan:
    """An ImageFolder of real digits, none of which the demo's models have seen."""
    images, labels = digits.load_digits()
    _, chosen, _ = digits.split(labels, per_class, SPLIT_SEED)
    digits.write_real(folder, images[chosen], labels[chosen])
    return scan_image_folder(folder)


def models(
    wanted: Settings, scan: ImageFolderScan, work: Path, device: torch.device
) -> tuple[DiffusersTextToImage, SimilarityFilter]:
    """What generates and what judges; models that must be saved first go to the folder `work`."""
    labels = torch.tensor(scan.labels)
    count = len(scan.class_names)
    if wanted.model == "digits":
        embedder = load_embedder(str(MODELS / "digits-clip"), device=str(device))
        real = real_embeddings(embedder, scan, None, lambda done, total: None).embeddings
        text_to_image = load_text_to_image(text_to_image_options())
        return text_to_image, SimilarityFilter(embedder, real, labels, class_thresholds(real, labels, count))
    half = torch.float16 if device.type == "cuda" else torch.float32
    pipeline = random_sdxl(tiny=wanted.tiny, dtype=half, device=device)
    text_to_image = DiffusersTextToImage(pipeline, gamma=GAMMA, steps=wanted.steps)
    embedder = _random_vit(work, device, tiny=wanted.tiny)
    real = real_embeddings(embedder, scan, None, lambda done, total: None).embeddings
    return text_to_image, SimilarityFilter(embedder, real, labels, torch.full((count,), -1.0, dtype=torch.float64))


def _random_vit(work: Path, device: torch.device, *, tiny: bool) -> Any:
    """A ViT-B/32 with random weights, saved and opened as a user's own model would be."""
    import json

    import open_clip
    from safetensors.torch import save_file

    folder = work / "random-vit"
    folder.mkdir(exist_ok=True)
    config = open_clip.get_model_config("ViT-B-32")
    if tiny:
        config["vision_cfg"].update(layers=1, width=32, head_width=16)
        config["text_cfg"].update(layers=1, width=32, heads=2, vocab_size=64)
    model = open_clip.CLIP(**config)
    mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": {"mean": mean, "std": std}})
    )
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    return load_embedder(str(folder), device=str(device), precision="fp16" if device.type == "cuda" else "fp32")


def measure(
    wanted: Settings,
    scan: ImageFolderScan,
    work: Path,
    percent: int,
    text_to_image: DiffusersTextToImage,
    similarity: SimilarityFilter,
) -> GenerationReport:
    """One run over that share of the samples; its store lies in the folder `work`."""
    size = digits.SIZE if wanted.model == "digits" else wanted.size
    settings = GenerationSettings(
        BUILT_IN["digit"], size, size, fraction=percent / 100, batch_size=wanted.batch, max_attempts=20, seed=percent
    )
    return generate(plan_work(scan, settings), work / f"store-{percent}", text_to_image, similarity)


def figures(report: GenerationReport) -> dict[str, Any]:
    """What is kept of a run."""
    return {
        "wanted": report.total.wanted,
        "generated": report.total.generated,
        "discarded": report.total.discarded,
        "never_passed": len(report.never_passed),
        "wall_seconds": report.wall_seconds,
        "seconds": {stage: report.seconds.get(stage, 0.0) for stage in STAGES},
    }


def tell(run: Mapping[str, Any], real_filter: bool) -> str:
    """Both figures for one share; stages as shares of the wall time; filter and writer run beside the denoiser."""
    wall = run["wall_seconds"]
    row = (
        f"{run['percent']} %",
        str(run["generated"]),
        f"{run['discarded'] / max(run['generated'], 1):.1%}" if real_filter else "–",
        f"{wall:.2f}",
        f"{run['generated'] / wall:.2f}",
        *(f"{run['seconds'][stage] / wall:.1%}" for stage in STAGES),
    )
    return table(("augmented", "generated", "discarded", "seconds", "images/s", *STAGES), [row])


def run(wanted: Settings, percent: list[int], device: torch.device, output: Output) -> dict[str, Any]:
    """All shares in the order given, after one unmeasured batch."""
    weights = "trained" if wanted.model == "digits" else "random, in the sizes of SDXL"
    setting = {**asdict(wanted), "weights": weights}
    run = Run("generation", output, device, setting, ("diffusers", "transformers", "open_clip_torch"))
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        scan = real_digits(work / "real", wanted.per_class)
        text_to_image, similarity = models(wanted, scan, work, device)
        with quiet_libraries():
            text_to_image.generate(["a 1"] * wanted.batch, [""] * wanted.batch, range(wanted.batch))
        return run.do(
            [{"percent": share} for share in percent],
            lambda part: figures(measure(wanted, scan, work, part["percent"], text_to_image, similarity)),
            lambda measured: tell(measured, wanted.model == "digits"),
        )


def main(
    context: typer.Context,
    model: Annotated[str, options.choice("--model", "That generate", "model", ("digits", "sdxl"))] = "digits",
    device: options.Device = "cpu",
    percent: Annotated[
        list[int], options.number("--percent", "Of the samples that get counterparts; one or more.")
    ] = PERCENT,
    per_class: Annotated[int, options.number("--per-class", "Real images of each digit.")] = 20,
    batch: Annotated[int, options.number("--batch", "Images generated together.")] = 20,
    steps: Annotated[int, options.number("--steps", "Denoising steps with sdxl.")] = STEPS,
    size: Annotated[int, options.number("--size", "Of the store's images with sdxl.")] = 256,
    tiny: Annotated[bool, options.flag("--tiny", "With sdxl: a tiny one, to see that everything runs.")] = False,
    json: options.ResumableJson = None,
    budget_minutes: options.BudgetMinutes = None,
) -> None:
    """Measure, print, and write JSON if asked."""
    if model == "sdxl":
        print(
            "SDXL's architecture with random weights: the same arithmetic; the images are noise, all of them accepted."
        )
    wanted = Settings(model, per_class, batch, steps, size, tiny)
    run(wanted, percent, options.device_of(device), output_of(context, json, budget_minutes))
