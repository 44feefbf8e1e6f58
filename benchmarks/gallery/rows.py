"""What each method makes of a batch: the images and, under each, its label's shares."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from diffcore_gpu import DiffCoreMix
from diffcore_gpu.baselines import Baseline, Batch, Mixed, Need, make_baseline, one_hot
from diffcore_gpu.baselines.images import Normalization
from diffcore_gpu.benchmarks.gallery.batch import GalleryBatch
from diffcore_gpu.benchmarks.harness.random_data import MEAN, STD
from diffcore_gpu.benchmarks.paper import OURS
from diffcore_gpu.benchmarks.training.step import FAILURES
from diffcore_gpu.errors import clause
from diffcore_gpu.plan import MixPlan

_SMALLEST_SHARE = 0.005
"""Shares below are 0.00 in print, and left out."""
_DRAWS, _LARGEST_SHARE = 10, 0.85
"""How often a method draws until the largest shares of the labels are no more than this on average."""
_NORMALIZATION = Normalization(MEAN, STD)


@dataclass(frozen=True)
class GalleryRow:
    """One row of the picture.

    Attributes:
        name: its heading.
        note: beside the heading.
        images: uint8 [M, 3, H, W]; None: the method failed.
        captions: under each image, lines of text.
        failed: why there are no images.
        figures: what a result file holds of the row.
    """

    name: str
    note: str = ""
    images: Tensor | None = None
    captions: list[list[str]] = field(default_factory=list)
    failed: str | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)


def readable_names(class_names: Sequence[str]) -> list[str]:
    """Class names as a person writes them, in the letters of Pillow's built-in font, which are ASCII's.

    "001.Black_footed_Albatross" becomes "Black footed Albatross"; a name that would lose most of its letters becomes
    "class 0".
    """
    names = []
    for label, name in enumerate(class_names):
        text = re.sub(r"^\d+[\s._-]+(?=.*[^\W\d_])", "", name).replace("_", " ")
        plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
        plain = " ".join("".join(c if c.isprintable() else " " for c in plain).split())
        names.append(plain if plain and 2 * len(plain) >= len(text) else f"class {label}")
    return names


def shares(weights: Tensor, names: Sequence[str]) -> list[str]:
    """A line for each class that has a share, the largest first; a whole label is its name alone.

    Args:
        weights: float [K].
        names: of the K classes.
    """
    order = sorted(range(len(names)), key=lambda label: (-float(weights[label]), label))
    shown = [label for label in order if float(weights[label]) >= _SMALLEST_SHARE]
    if len(shown) == 1 and abs(float(weights[shown[0]]) - 1) < _SMALLEST_SHARE:
        return [names[shown[0]]]
    return [f"{names[label]} {float(weights[label]):.2f}" for label in shown]


def given_rows(batch: GalleryBatch, seed: int) -> list[GalleryRow]:
    """The real images and, with a store, the counterparts that DiffCoreMix takes for them with this seed."""
    names = readable_names(batch.class_names)
    labels = [[names[label]] for label in batch.labels.tolist()]
    rows = [GalleryRow("real images", images=batch.images, captions=labels)]
    if batch.store is not None:
        _, plan = _mixed(batch, batch.store, seed)
        found = plan.row >= 0
        images = torch.full_like(batch.images, 255)
        images[found] = batch.store.images(plan.row[found])
        captions = [[f"row {row}"] if row >= 0 else ["no counterpart"] for row in plan.row.tolist()]
        rows.append(GalleryRow("counterparts", "those that diffcore-mix takes below", images, captions))
    return rows


def method_row(name: str, batch: GalleryBatch, model: nn.Module, model_is: str, seed: int) -> GalleryRow:
    """The batch under one method, or why it cannot be shown.

    Args:
        name: `OURS`, or a name of `diffcore_gpu.baselines`.
        batch: what is mixed.
        model: for methods that look at its gradients or activations, in training mode.
        model_is: a few words about it.
        seed: of the method.
    """
    names = readable_names(batch.class_names)
    try:
        if name == OURS:
            return _our_row(batch, names, seed)
        method = make_baseline(name, len(names), mean=MEAN, std=STD, seed=seed, store=batch.store)
        made, draw = _drawn(method, batch, model, seed)
    except FAILURES as error:
        return GalleryRow(name, failed=clause(error), figures={"method": name, "failed": clause(error)})
    notes = []
    if (Need.GRADIENTS | Need.ACTIVATIONS) & method.needs:
        notes.append(f"saliency of {model_is}")
    if not isinstance(made.during_forward, nullcontext):
        notes.append("mixes inside the model: the images themselves stay as they are")
    if draw > 1:
        notes.append(f"draw {draw}, since those before mix too little to see")
    return GalleryRow(
        name,
        "; ".join(notes),
        _bytes(made.images),
        [shares(weights, names) for weights in made.targets],
        figures={"method": name, "draw": draw, "targets": _weights(made.targets, batch.class_names)},
    )


def _drawn(method: Baseline, batch: GalleryBatch, model: nn.Module, seed: int) -> tuple[Mixed, int]:
    """What the method makes of the batch, and in which of its draws: the first that mixes labels, else the first."""
    made = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # for a model that draws, such as one with dropout
        for draw in range(1, _DRAWS + 1):
            made.append(method(Batch(_normalized(batch.images), batch.labels, batch.index), model))
            if float(made[-1].targets.amax(1).mean()) <= _LARGEST_SHARE:
                return made[-1], draw
    return made[0], 1


def _our_row(batch: GalleryBatch, names: Sequence[str], seed: int) -> GalleryRow:
    if batch.store is None:
        missing = "it mixes with generated counterparts; give a store of them with --store."
        return GalleryRow(OURS, failed=missing, figures={"method": OURS, "failed": missing})
    mixed, plan = _mixed(batch, batch.store, seed)
    area = mixed.shape[2] * mixed.shape[3]
    captions, plans = [], []
    for position, label in enumerate(batch.labels.tolist()):
        top, left, bottom, right = plan.box[position].tolist()
        row, lam = int(plan.row[position]), float(plan.lam[position])
        share = (bottom - top) * (right - left) / area
        shown = "real" if plan.inside_real[position] else "counterpart"
        if row < 0:
            done: dict[str, Any] = {"mix": "none"}
            text = "not mixed"
        elif plan.pixel[position]:
            done, text = {"mix": "pixel", "lambda": lam}, f"pixel, lambda {lam:.2f}"
        else:
            done = {"mix": "patch", "box": [top, left, bottom, right], "inside": shown}
            text = f"patch: {share:.0%} {shown}"
        captions.append([names[label], text])
        plans.append({"row": row, **done})
    targets = _weights(one_hot(batch.labels, len(names)), batch.class_names)
    figures = {"method": OURS, "targets": targets, "plan": plans}
    return GalleryRow(OURS, "the label stays whole", _bytes(mixed), captions, figures=figures)


def _mixed(batch: GalleryBatch, store: Any, seed: int) -> tuple[Tensor, MixPlan]:
    mix = DiffCoreMix(store, mean=MEAN, std=STD, seed=seed)
    mixed, plan = mix(_normalized(batch.images), batch.index, labels=batch.labels, return_plan=True)
    return mixed, plan


def _weights(targets: Tensor, class_names: Sequence[str]) -> list[dict[str, float]]:
    """The classes that have a weight, for each image."""
    return [
        {class_names[label]: round(float(row[label]), 6) for label in row.nonzero().flatten().tolist()}
        for row in targets.cpu()
    ]


def _normalized(images: Tensor) -> Tensor:
    return _NORMALIZATION.images(images.float() / 255, like=torch.empty(1, 1, 1, 1))


def _bytes(images: Tensor) -> Tensor:
    return (_NORMALIZATION.pixels(images.detach()) * 255).round().clamp(0, 255).to(torch.uint8)
