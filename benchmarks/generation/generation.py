"""Generation time and discards against the share of the samples that get counterparts: Figs. 7 and 8 of the paper.

With ``--model digits`` the demo's trained models generate for real digits, and their filter discards for real. With
``--model sdxl`` denoiser, autoencoder and text encoders have the sizes of Stable Diffusion XL and random weights: the
arithmetic and so the time are the same, the images are noise, and so everything is accepted (τ = −1, with a ViT-B/32 of
random weights as the filter); discards then mean nothing and are not shown.

    diffcore bench generation --model digits --json benchmarks/results/DEVICE/generation.json
    diffcore bench generation --model sdxl --device cuda --percent 50 100 --per-class 2 --json …
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from diffcore_gpu.benchmarks.generation.sdxl import random_sdxl
from diffcore_gpu.benchmarks.harness.measure import table
from diffcore_gpu.benchmarks.harness.options import SuiteParser, device_of, positive
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


def real_digits(folder: Path, per_class: int) -> ImageFolderScan:
    """An ImageFolder of real digits, none of which the demo's models have seen."""
    images, labels = digits.load_digits()
    _, chosen, _ = digits.split(labels, per_class, SPLIT_SEED)
    digits.write_real(folder, images[chosen], labels[chosen])
    return scan_image_folder(folder)


def models(
    options: argparse.Namespace, scan: ImageFolderScan, device: torch.device
) -> tuple[DiffusersTextToImage, SimilarityFilter]:
    """What generates and what judges."""
    labels = torch.tensor(scan.labels)
    count = len(scan.class_names)
    if options.model == "digits":
        embedder = load_embedder(str(MODELS / "digits-clip"), device=str(device))
        real = real_embeddings(embedder, scan, None, lambda done, total: None)
        text_to_image = load_text_to_image(text_to_image_options())
        return text_to_image, SimilarityFilter(embedder, real, labels, class_thresholds(real, labels, count))
    half = torch.float16 if device.type == "cuda" else torch.float32
    pipeline = random_sdxl(tiny=options.tiny, dtype=half, device=device)
    text_to_image = DiffusersTextToImage(pipeline, gamma=GAMMA, steps=options.steps)
    embedder = _random_vit(options.work, device, tiny=options.tiny)
    real = real_embeddings(embedder, scan, None, lambda done, total: None)
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
    options: argparse.Namespace, scan: ImageFolderScan, percent: int, text_to_image: Any, similarity: SimilarityFilter
) -> GenerationReport:
    """One run over that share of the samples."""
    size = digits.SIZE if options.model == "digits" else options.size
    settings = GenerationSettings(
        BUILT_IN["digit"], size, size, fraction=percent / 100, batch_size=options.batch, max_attempts=20, seed=percent
    )
    work = plan_work(scan, settings)
    return generate(work, options.work / f"store-{percent}", text_to_image, similarity)


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


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = SuiteParser("generation", __doc__)
    parser.add_argument("--model", choices=("digits", "sdxl"), default="digits", help="default: %(default)s")
    parser.add_device("cpu")
    parser.add_argument(
        "--percent", type=positive, nargs="+", default=list(range(10, 101, 10)), help="default: 10 20 … 100"
    )
    parser.add_argument(
        "--per-class", type=positive, default=20, help="real images of each digit (default: %(default)s)"
    )
    parser.add_argument("--batch", type=positive, default=20, help="images generated together (default: %(default)s)")
    parser.add_argument(
        "--steps", type=positive, default=STEPS, help="denoising steps with sdxl (default: %(default)s)"
    )
    parser.add_argument("--size", type=positive, default=256, help="of the store's images with sdxl (default: 256)")
    parser.add_argument("--tiny", action="store_true", help="with sdxl: a tiny one, to see that everything runs")
    parser.add_resumable_json()
    return parser.parse(arguments)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All shares in the order given, after one unmeasured batch."""
    device = device_of(options)
    names = ("model", "per_class", "batch", "steps", "size", "tiny")
    weights = "trained" if options.model == "digits" else "random, in the sizes of SDXL"
    setting = {**{name: getattr(options, name) for name in names}, "weights": weights}
    run = Run("generation", options, device, setting, ("diffusers", "transformers", "open_clip_torch"))
    with tempfile.TemporaryDirectory() as folder:
        options.work = Path(folder)
        scan = real_digits(options.work / "real", options.per_class)
        text_to_image, similarity = models(options, scan, device)
        with quiet_libraries():
            text_to_image.generate(["a 1"] * options.batch, [""] * options.batch, range(options.batch))
        return run.do(
            [{"percent": percent} for percent in options.percent],
            lambda part: figures(measure(options, scan, part["percent"], text_to_image, similarity)),
            lambda measured: tell(measured, options.model == "digits"),
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write JSON if asked."""
    options = parse(arguments)
    if options.model == "sdxl":
        print(
            "SDXL's architecture with random weights: the same arithmetic; the images are noise, all of them accepted."
        )
    run(options)
