"""The page that a store has on the Hub, its README.md: what it is for, how it was made, and how it is opened.

Everything on it is taken from the store; what the store does not know is said to be unknown. The pictures show
counterparts alone, so that no real image is published by accident.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from diffcore_gpu.store.format import FORMAT_VERSION

if TYPE_CHECKING:
    from diffcore_gpu.store.reader import CounterpartStore

CARD_NAME = "README.md"
PICTURE_NAME = "counterparts.jpg"

MODEL_LICENCES = {
    "stabilityai/cosxl": "cosxl-nc-community",
    "stabilityai/sdxl-turbo": "sai-nc-community",
    "stabilityai/stable-diffusion-xl-base-1.0": "openrail++",
    "stable-diffusion-v1-5/stable-diffusion-v1-5": "creativeml-openrail-m",
    "madebyollin/sdxl-vae-fp16-fix": "mit",
}
"""The licence of the weights of each model that a preset names, as its page on the Hub calls it."""

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
          (10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"), (1_000_000_000, "100M<n<1B"))  # fmt: skip
_LISTED = 100  # classes, and prompts, that are listed


def card(store: CounterpartStore, url: str, *, picture: bool = True) -> str:
    """The card of a store as Markdown, with the front matter that the Hub reads.

    Args:
        store: an open store.
        url: where it will be, as others open it; without anything secret.
        picture: whether `PICTURE_NAME` lies beside the card.
    """
    metadata = store.metadata
    of = _plain(metadata.get("real")) or "a dataset whose name is not known"
    samples, classes = f"{store.num_samples:,} training images", f"{len(store.class_names):,} classes"
    lines = [
        *_front_matter(store),
        f"# Counterparts of {_escaped(of)}",
        "",
        f"Generated images for {samples} of {classes}, to be mixed into batches while a classifier trains "
        "(DiffCoRe-Mix). It holds no real image: only the class and digests of each.",
        "",
        *([f"![Counterparts]({PICTURE_NAME})", ""] if picture else []),
        *_what_it_holds(store),
        *_how_it_was_made(store),
        *_licences(metadata),
        *_how_to_open(url),
        *_classes(store),
    ]
    return "\n".join(lines) + "\n"


def picture_of(store: CounterpartStore) -> bytes:
    """A sheet of counterparts as JPEG; no real image is on it."""
    from diffcore_gpu.contact_sheet import counterpart_sheet

    written = io.BytesIO()
    title = f"Counterparts of {_plain(store.metadata.get('real')) or 'a dataset'}"
    counterpart_sheet(store, title=title).save(written, format="JPEG", quality=88)
    return written.getvalue()


def models_of(metadata: Mapping[str, Any]) -> list[str]:
    """The models that made the images, as far as the store's metadata tell: repositories on the Hub, or names."""
    model = metadata.get("model")
    named = [model.get(key) for key in ("model", "vae")] if isinstance(model, Mapping) else [model]
    return [_plain(name) for name in named if isinstance(name, str) and name]


def licence_of(model: str) -> str | None:
    """The licence of a model's weights, by its repository on the Hub or a file in it; None: not known here."""
    return MODEL_LICENCES.get("/".join(model.split("/")[:2]))


def _front_matter(store: CounterpartStore) -> list[str]:
    size = next((name for most, name in _SIZES if store.num_rows < most), "n>1T")
    name = _plain(store.metadata.get("real"))
    values: dict[str, Any] = {
        "pretty_name": f"Counterparts of {name}" if name else "Counterparts",
        "license": "unknown",  # of the images; what is known of the models stands in the text
        "task_categories": ["image-classification"],
        "size_categories": [size],
        "annotations_creators": ["machine-generated"],
        "tags": ["diffcore-gpu", "counterparts", "data-augmentation", "synthetic"],
        "viewer": False,  # safetensors files are no table
    }
    return ["---", *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()), "---", ""]


def _what_it_holds(store: CounterpartStore) -> list[str]:
    covered = int((np.diff(store.pair_ptr.numpy()) > 0).sum())
    channels, height, width = store.image_shape
    return [
        "## What it holds",
        "",
        "| | |",
        "|---|---|",
        f"| counterparts | {store.num_rows:,} images of {height} × {width} pixels, {channels} channels |",
        f"| pairs | {store.num_pairs:,} |",
        f"| samples | {store.num_samples:,}, of which {covered:,} ({store.coverage:.1%}) have a counterpart |",
        f"| classes | {len(store.class_names):,} |",
        f"| checksum | `{store.checksum}` |",
        "",
    ]


def _how_it_was_made(store: CounterpartStore) -> list[str]:
    metadata = store.metadata
    by = _plain(metadata.get("made_by")) or "not known"
    rows = [("made by", f"{by} {_plain(metadata.get('version'))}".strip())]
    rows.append(("format", f"version {getattr(store.manifest, 'version', FORMAT_VERSION)}"))
    model = metadata.get("model")
    rows += [("model", name) for name in models_of(metadata)] or [("model", "not known")]
    if isinstance(model, Mapping):
        rows += [
            (key.replace("_", " "), _plain(model[key]))
            for key in ("revision", "commit", "pipeline", "scheduler", "gamma", "steps", "dtype")
            if model.get(key) is not None
        ]
    chosen = metadata.get("filter")
    if isinstance(chosen, Mapping):
        rows.append(("filter", _plain(chosen.get("model"))))
    rows += _thresholds(metadata.get("thresholds"))
    lines = [
        "## How it was made",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {_code(text)} |" for name, text in rows),
        "",
    ]
    asked = _prompts(metadata) or store.prompts
    if asked:
        lines += [f"Prompts ({len(asked):,}):", "", *(f"- {_code(text)}" for text in asked[:_LISTED])]
        lines += [f"- … and {len(asked) - _LISTED:,} more"] if len(asked) > _LISTED else []
        lines.append("")
    return lines


def _prompts(metadata: Mapping[str, Any]) -> list[str]:
    """The prompts with their placeholders, where the store was generated from such."""
    prompts = metadata.get("prompts")
    if not isinstance(prompts, Mapping) or not isinstance(prompts.get("contextual"), list):
        return []
    negative = prompts.get("negative")
    return [*map(str, prompts["contextual"]), *([f"not: {negative}"] if negative else [])]


def _thresholds(values: object) -> list[tuple[str, str]]:
    if not isinstance(values, list):
        return []
    known = np.array([value for value in values if isinstance(value, int | float)], np.float64)
    if not len(known):
        return []
    return [
        (
            "thresholds",
            f"similarity above {known.min():.3f} to {known.max():.3f} by class, median {np.median(known):.3f}",
        )
    ]


def _licences(metadata: Mapping[str, Any]) -> list[str]:
    lines = ["## Licences", ""]
    for model in models_of(metadata):
        licence = licence_of(model)
        text = f"`{licence}`, as its page on the Hub says" if licence else "not known"
        lines.append(f"- Weights of {_code(model)}: {text}.")
    if len(lines) == 2:
        lines.append("- The model that made the images, and its licence: not known.")
    lines += ["- The images: not known. Read the models' licences, and that of the real images.", ""]
    return lines


def _how_to_open(url: str) -> list[str]:
    return [
        "## How to open it",
        "",
        "```python",
        "import diffcore_gpu as dc  # pip install 'diffcore-gpu[remote]'",
        "",
        f"store = dc.CounterpartStore.open({json.dumps(url, ensure_ascii=False)})",
        "store.bind(dataset)  # refuses any other dataset than the one it was made for",
        "mix = dc.DiffCoreMix(store)",
        "```",
        "",
    ]


def _classes(store: CounterpartStore) -> list[str]:
    count = len(store.class_names)
    labels = store.labels.numpy()
    covered = np.bincount(labels[np.diff(store.pair_ptr.numpy()) > 0], minlength=count)
    samples, rows = np.bincount(labels, minlength=count), np.bincount(store.row_label().numpy(), minlength=count)
    lines = ["## Classes", "", "| class | samples | with a counterpart | counterparts |", "|---|---:|---:|---:|"]
    for label, name in enumerate(store.class_names[:_LISTED]):
        lines.append(f"| {_code(name)} | {samples[label]:,} | {covered[label]:,} | {rows[label]:,} |")
    if count > _LISTED:
        lines += ["", f"… and {count - _LISTED:,} more."]
    return lines


def _plain(value: object) -> str:
    """A value in one line of printable characters."""
    text = "" if value is None else str(value)
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _code(value: object) -> str:
    """A value as code, which neither ends a cell of a table nor is read as Markdown."""
    return f"`{_plain(value).replace('`', chr(39)).replace('|', chr(92) + '|')}`"


def _escaped(text: str) -> str:
    """Text in which nothing is read as Markdown or HTML."""
    return re.sub(r"([\\`*_{}\[\]<>#|~!])", r"\\\1", text)
