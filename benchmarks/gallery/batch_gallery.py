"""A picture of the same batch under every method, as in Figs. 10-15 of the paper.

The first row shows the real images, the second their counterparts, and then there is one row for each method with its
published defaults, and the shares of the label under each image. A method that mixes labels draws up to ten times, and
the first draw is shown whose images keep no more than 85 % of their labels on average: a λ near 1 shows nothing. The
images are shown whole: resized and cut to the middle, as `diffcore pack` does. A method that cannot be drawn is a row
that says why.

    diffcore bench batch-gallery --out gallery.png
    diffcore bench batch-gallery --real birds --store stores/birds --weights resnet18.pt --out gallery.png

Without --real the images are real handwritten digits, with other real digits in place of generated counterparts.
Methods that look at a model's gradients or activations show a trained model's saliency only with --weights or
--pretrained. The same command makes the same picture.
"""

from __future__ import annotations

import copy
import io
import tempfile
from pathlib import Path
from typing import Annotated

import torch
import typer

from diffcore_gpu import CounterpartStore
from diffcore_gpu.benchmarks.gallery.batch import DIGITS, GalleryBatch, load_batch, load_model, write_digits
from diffcore_gpu.benchmarks.gallery.picture import draw_gallery
from diffcore_gpu.benchmarks.gallery.rows import given_rows, method_row
from diffcore_gpu.benchmarks.harness import options
from diffcore_gpu.benchmarks.harness.command import output_of
from diffcore_gpu.benchmarks.harness.environment import environment
from diffcore_gpu.benchmarks.harness.result_file import new_result, write_result
from diffcore_gpu.benchmarks.paper import OURS
from diffcore_gpu.demo.digits import SIZE
from diffcore_gpu.documents import resolved
from diffcore_gpu.errors import BenchmarkError
from diffcore_gpu.store.durable import replace_file

METHODS = ["mixup", "cutmix", "saliencymix", "puzzlemix", "guided-ap-greedy", OURS]
"""Those of Figs. 10-15."""
PACKAGES = ("torchvision", "timm", "kornia", "opencv-contrib-python-headless", "gco-wrapper", "pillow")


def main(
    context: typer.Context,
    real: options.Real = None,
    store: options.Store = None,
    methods: options.Methods = METHODS,
    batch: options.Batch = 8,
    size: Annotated[
        int | None, options.number("--size", "Height and width. Default: those of the store, or 224.")
    ] = None,
    model: options.Model = "resnet18",
    weights: Annotated[
        Path | None, options.file("--weights", "Of the model: a state dict, .safetensors or .pt.")
    ] = None,
    pretrained: Annotated[bool, options.flag("--pretrained", "The model has its ImageNet weights.")] = False,
    seed: Annotated[int, options.number("--seed", "Of the images and mixes.", options.not_negative)] = 0,
    out: Annotated[Path, options.option("--out", "The picture.", "FILE.png")] = Path("batch-gallery.png"),
    json: options.Json = None,
) -> None:
    """Draw the picture, and write JSON if asked."""
    if out.suffix.lower() != ".png":
        raise BenchmarkError(f"--out {out}: does not end in .png.")
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise BenchmarkError(f"--out {out}: is a folder or lies in none; name a file in a folder that is there.")
    with tempfile.TemporaryDirectory() as folder:
        shown_batch, shown = _batch(real, store, batch, size, seed, Path(folder))
        classes = len(shown_batch.class_names)
        net, model_is = load_model(model, classes, weights=weights, pretrained=pretrained, seed=seed)
        # A copy for each, since a pass in training mode changes the running means of a model.
        rows = given_rows(shown_batch, seed) + [
            method_row(name, shown_batch, copy.deepcopy(net), model_is, seed) for name in dict.fromkeys(methods)
        ]
    height, width = shown_batch.images.shape[2:]
    subtitle = f"{shown}; batch of {len(shown_batch.images)}, {height} x {width} pixels, seed {seed}"
    picture = draw_gallery("One batch under every method", subtitle, rows)
    data = io.BytesIO()
    picture.save(data, "PNG")
    replace_file(out, data.getvalue())
    drawn = sum(row.failed is None for row in rows) - sum(not row.figures for row in rows)
    print(f"{out}: a batch of {len(shown_batch.images)} under {drawn} methods")
    for row in rows:
        if row.failed:
            print(f"{row.name} is not shown: {row.failed}")
    if json is not None:
        setting = {
            "data": "digits" if real is None else real.name,
            "store": None if store is None else store.name,
            "batch": len(shown_batch.images),
            "size": [height, width],
            "seed": seed,
            "model": model_is,
            "files": shown_batch.file_names,
            "labels": [shown_batch.class_names[label] for label in shown_batch.labels.tolist()],
        }
        measured_on = environment(torch.device("cpu"), PACKAGES, command=output_of(context, json).command)
        result = new_result("batch-gallery", measured_on, setting)
        result["results"] = [row.figures for row in rows if row.figures]
        write_result(json, result)


def _batch(
    real: Path | None, store: Path | None, batch: int, size: int | None, seed: int, folder: Path
) -> tuple[GalleryBatch, str]:
    """The batch, and where it is from; what is written goes to `folder`, which must stay while the store is in use."""
    if real is not None:
        shown = resolved(real).name.encode("ascii", "replace").decode()
        counterparts = None if store is None else CounterpartStore.open(store)
        return load_batch(real, counterparts, batch=batch, size=size, seed=seed), shown
    if store is not None:
        raise BenchmarkError("--store needs --real, the images that it was made for.")
    if batch > DIGITS or size not in (None, SIZE):
        raise BenchmarkError(
            f"without --real there are {DIGITS} digits of {SIZE}×{SIZE}: give a smaller --batch and no --size, or "
            "images with --real."
        )
    digits, counterparts = write_digits(folder, seed)
    shown = "real digits, with other real digits in place of generated ones"
    return load_batch(digits, counterparts, batch=batch, size=size, seed=seed), shown
