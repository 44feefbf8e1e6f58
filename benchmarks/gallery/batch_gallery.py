"""A picture of the same batch under every method, as in Figs. 10-15 of the paper.

The first row shows the real images, the second their counterparts, and then there is one row for each method with its
published defaults, and the shares of the label under each image. A method that mixes labels draws up to ten times, and
the first draw is shown whose images keep no more than 85 % of their labels on average: a λ near 1 shows nothing. The
images are shown whole: resized and cut to the middle, as `diffcore pack` does. A method that cannot be drawn is a row
that says why.

    diffcore bench batch-gallery --out gallery.png
    diffcore bench batch-gallery --data birds --store stores/birds --weights resnet18.pt --out gallery.png

Without --data the images are real handwritten digits, with other real digits in place of generated counterparts.
Methods that look at a model's gradients or activations show a trained model's saliency only with --weights or
--pretrained. The same command makes the same picture.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from diffcore_gpu import CounterpartStore
from diffcore_gpu.baselines import BASELINES
from diffcore_gpu.benchmarks.gallery.batch import DIGITS, GalleryBatch, load_batch, load_model, write_digits
from diffcore_gpu.benchmarks.gallery.picture import draw_gallery
from diffcore_gpu.benchmarks.gallery.rows import GalleryRow, given_rows, method_row
from diffcore_gpu.benchmarks.harness.environment import environment
from diffcore_gpu.benchmarks.harness.options import SuiteParser, not_negative, one_of, positive
from diffcore_gpu.benchmarks.harness.result_file import new_result, write_result
from diffcore_gpu.benchmarks.paper import OURS
from diffcore_gpu.demo.digits import SIZE
from diffcore_gpu.errors import BenchmarkError

METHODS = ("mixup", "cutmix", "saliencymix", "puzzlemix", "guided-ap-greedy", OURS)
"""Those of Figs. 10-15."""
PACKAGES = ("torchvision", "timm", "kornia", "opencv-contrib-python-headless", "gco-wrapper", "pillow")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = SuiteParser("batch-gallery", __doc__)
    parser.add_argument("--data", type=Path, default=None, help="ImageFolder of real images (default: digits)")
    parser.add_argument("--store", type=Path, default=None, help="its counterparts")
    parser.add_argument(
        "--methods",
        type=one_of("method", (OURS, *BASELINES)),
        nargs="+",
        default=list(METHODS),
        metavar="NAME",
        help=f"default: {' '.join(METHODS)}",
    )
    parser.add_argument("--batch", type=positive, default=8, help="images (default: %(default)s)")
    parser.add_argument(
        "--size", type=positive, default=None, help="height and width (default: those of the store, or 224)"
    )
    parser.add_argument("--model", default="resnet18", help="of torchvision or timm (default: %(default)s)")
    parser.add_argument("--weights", type=Path, default=None, help="of the model: a state dict, .safetensors or .pt")
    parser.add_argument("--pretrained", action="store_true", help="the model has its ImageNet weights")
    parser.add_argument("--seed", type=not_negative, default=0, help="of the images and mixes (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path("batch-gallery.png"), help="the picture (default: %(default)s)"
    )
    parser.add_json()
    return parser.parse(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the picture, and write JSON if asked."""
    options = parse(arguments)
    if options.out.suffix.lower() != ".png":
        raise BenchmarkError(f"--out {options.out}: does not end in .png.")
    if options.out.is_dir() or not options.out.absolute().parent.is_dir():
        raise BenchmarkError(
            f"--out {options.out}: is a folder or lies in none; name a file in a folder that is there."
        )
    with tempfile.TemporaryDirectory() as folder:
        batch, shown = _batch(options, Path(folder))
        rows, model_is = _rows(options, batch)
    height, width = batch.images.shape[2:]
    subtitle = f"{shown}; batch of {len(batch.images)}, {height} x {width} pixels, seed {options.seed}"
    picture = draw_gallery("One batch under every method", subtitle, rows)
    try:
        picture.save(options.out)
    except OSError as error:
        raise BenchmarkError(f"--out {options.out}: cannot be written: {error.strerror or error}.") from error
    drawn = sum(row.failed is None for row in rows) - sum(not row.figures for row in rows)
    print(f"{options.out}: a batch of {len(batch.images)} under {drawn} methods")
    for row in rows:
        if row.failed:
            print(f"{row.name} is not shown: {row.failed}")
    if options.json is not None:
        setting = {
            "data": "digits" if options.data is None else options.data.name,
            "store": None if options.store is None else options.store.name,
            "batch": len(batch.images),
            "size": [height, width],
            "seed": options.seed,
            "model": model_is,
            "files": batch.file_names,
            "labels": [batch.class_names[label] for label in batch.labels.tolist()],
        }
        measured_on = environment(torch.device("cpu"), PACKAGES, command=options.command)
        result = new_result("batch-gallery", measured_on, setting)
        result["results"] = [row.figures for row in rows if row.figures]
        write_result(options.json, result)


def _batch(options: argparse.Namespace, folder: Path) -> tuple[GalleryBatch, str]:
    """The batch, and where it is from; what is written goes to `folder`, which must stay while the store is in use."""
    data, store = options.data, None
    if data is None:
        if options.store is not None:
            raise BenchmarkError("--store needs --data, the images that it was made for.")
        if options.batch > DIGITS or options.size not in (None, SIZE):
            raise BenchmarkError(
                f"without --data there are {DIGITS} digits of {SIZE}×{SIZE}: give a smaller --batch and no --size, or "
                "images with --data."
            )
        data, store = write_digits(folder, options.seed)
        shown = "real digits, with other real digits in place of generated ones"
    else:
        shown = data.resolve().name.encode("ascii", "replace").decode()
        if options.store is not None:
            store = CounterpartStore.open(options.store)
    return load_batch(data, store, batch=options.batch, size=options.size, seed=options.seed), shown


def _rows(options: argparse.Namespace, batch: GalleryBatch) -> tuple[list[GalleryRow], str]:
    model, model_is = load_model(
        options.model,
        len(batch.class_names),
        weights=options.weights,
        pretrained=options.pretrained,
        seed=options.seed,
    )
    rows = given_rows(batch, options.seed)
    for name in dict.fromkeys(options.methods):
        # A copy for each, since a pass in training mode changes the running means of a model.
        rows.append(method_row(name, batch, copy.deepcopy(model), model_is, options.seed))
    return rows, model_is
