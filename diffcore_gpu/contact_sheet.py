"""Pictures of a store: real | counterpart | mixed by pixel | mixed by patch for some samples, or counterparts alone."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from diffcore_gpu.ops.mix.reference import mix_reference
from diffcore_gpu.plan import LamSpec, MixPlan, draw_plan
from diffcore_gpu.store import CounterpartStore

COLUMNS = ("real", "counterpart", "mixed by pixel", "mixed by patch")

_MARGIN = 28
_GAP = 10
_PAPER, _INK, _GREY, _RULE = (255, 255, 255), (28, 30, 33), (112, 117, 124), (226, 229, 233)
_SMALLEST, _LARGEST = 150, 224  # sides in pixels of an image on the sheet


@dataclass(frozen=True)
class _Fonts:
    title: ImageFont.ImageFont | ImageFont.FreeTypeFont
    heading: ImageFont.ImageFont | ImageFont.FreeTypeFont
    caption: ImageFont.ImageFont | ImageFont.FreeTypeFont


def choose_samples(store: CounterpartStore, count: int, seed: int = 0) -> list[int]:
    """Samples with counterparts, spread over as many classes as possible.

    Args:
        store: the store.
        count: how many; fewer come back where the store has fewer.
        seed: other seeds give other samples.

    Returns:
        Distinct samples, sorted by class.
    """
    covered = torch.nonzero(store.pair_ptr[1:] > store.pair_ptr[:-1]).flatten().numpy()
    chosen = covered[_spread(store.labels.numpy()[covered], count, seed)]
    return sorted(chosen.tolist(), key=lambda sample: (int(store.labels[sample]), sample))


def _spread(labels: npt.NDArray[np.int64], count: int, seed: int) -> npt.NDArray[np.intp]:
    """At most `count` positions in labels [n], drawn from as many classes as possible."""
    drawn = np.random.default_rng(seed).permutation(len(labels))
    # The k-th of every class comes before the (k+1)-th of any.
    order = np.argsort(labels[drawn], kind="stable")
    starts = np.searchsorted(labels[drawn][order], labels[drawn][order])
    turn = np.empty(len(labels), np.int64)
    turn[order] = np.arange(len(labels)) - starts
    return drawn[np.argsort(turn, kind="stable")[:count]]


def contact_sheet(
    store: CounterpartStore,
    samples: Sequence[int],
    load_real: Callable[[int], Tensor],
    *,
    seed: int = 0,
    lam: LamSpec = (0.3, 0.7),
    box_area: float | tuple[float, float] = (0.15, 0.6),
    title: str = "",
) -> Image.Image:
    """Draw one line per sample: the real image, one of its counterparts, and the two mixed by eq. 6 and by eq. 7.

    λ and the box are drawn from the middle of their ranges by default, so that both images are seen in the mix.

    Args:
        store: the store, images uint8 of 1 or 3 channels.
        samples: dataset indices, each with a counterpart.
        load_real: gives the real image of a sample, uint8 [C, H, W] of the store's shape.
        seed: of the plan.
        lam: λ of the pixel-wise mixes, see `PlanConfig`.
        box_area: share of the image in the box of the patch-wise mixes, see `PlanConfig`.
        title: stands at the top; empty: the store's folder.

    Returns:
        An RGB image.

    Raises:
        ValueError: no samples, one without a counterpart or outside the store, or a real image of another shape.
    """
    if not samples:
        raise ValueError("a contact sheet needs at least one sample.")
    index = torch.tensor(samples, dtype=torch.int64)
    _, height, width = store.image_shape
    draw = {"height": height, "width": width, "seed": seed, "p": 1.0, "lam": lam, "box_area": box_area}
    by_pixel = draw_plan(index, store, pixel_prob=1.0, **draw)  # type: ignore[arg-type]
    by_patch = draw_plan(index, store, pixel_prob=0.0, **draw)  # type: ignore[arg-type]
    if (by_pixel.row < 0).any():
        raise ValueError(f"sample {int(index[by_pixel.row < 0][0])} has no counterpart.")
    real = torch.stack([load_real(sample) for sample in samples])
    if real.shape[1:] != store.image_shape or real.dtype != torch.uint8:
        raise ValueError(
            f"expected real images uint8 {list(store.image_shape)}, got {real.dtype} {list(real.shape[1:])}."
        )
    counterparts = store.images(by_pixel.row)
    columns = (
        real,
        counterparts,
        mix_reference(real, counterparts, by_pixel),
        mix_reference(real, counterparts, by_patch),
    )
    captions = [_captions(store, sample, position, by_pixel, by_patch) for position, sample in enumerate(samples)]
    headings = [_readable(store.class_names[int(store.labels[s])], f"class {int(store.labels[s])}") for s in samples]
    covered = f"{store.num_samples} samples, {store.coverage:.1%} with a counterpart"
    subtitle = f"{store.num_rows} rows of {height} x {width} · {covered}"
    images = [[_picture(column[line]) for column in columns] for line in range(len(samples))]
    return _draw(_readable(title or store.path.name, "store"), subtitle, headings, captions, images)


def counterpart_sheet(
    store: CounterpartStore, count: int = 24, *, columns: int = 6, seed: int = 0, title: str = ""
) -> Image.Image:
    """Draw counterparts alone, each with its class: a picture of the store that shows no real image.

    Args:
        store: the store, images uint8 of 1 or 3 channels, with a row at least.
        count: how many, from as many classes as possible; fewer where the store has fewer.
        columns: how many side by side.
        seed: other seeds show other rows.
        title: stands at the top; empty: the store's folder.

    Returns:
        An RGB image.

    Raises:
        ValueError: the store has no rows.
    """
    if not store.num_rows:
        raise ValueError("a sheet of counterparts needs a store with rows.")
    labels = store.row_label().numpy()
    rows = np.sort(_spread(labels, count, seed))
    rows = rows[np.argsort(labels[rows], kind="stable")]
    pictures = [_picture(image) for image in store.images(rows)]
    fonts = _Fonts(*(ImageFont.load_default(size) for size in (22, 16, 13)))
    width, height = pictures[0].size
    across, line = min(columns, len(pictures)), height + 30
    size = 2 * _MARGIN + across * (width + _GAP) - _GAP, 64 + -(-len(pictures) // across) * line + _MARGIN // 2
    sheet = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(sheet)
    heading = _fitted(_readable(title or store.path.name, "store"), fonts.title, size[0] - 2 * _MARGIN)
    pen.text((_MARGIN, 18), heading, fill=_INK, font=fonts.title)
    for position, (row, picture) in enumerate(zip(rows.tolist(), pictures, strict=True)):
        x, y = _MARGIN + position % across * (width + _GAP), 64 + position // across * line
        sheet.paste(picture, (x, y))
        name = _readable(store.class_names[int(labels[row])], f"class {int(labels[row])}")
        pen.text((x, y + height + 4), _fitted(name, fonts.caption, width), fill=_GREY, font=fonts.caption)
    return sheet


def _captions(
    store: CounterpartStore, sample: int, position: int, by_pixel: MixPlan, by_patch: MixPlan
) -> tuple[str, str, str, str]:
    row = int(by_pixel.row[position])
    place = store.rows(sample).tolist().index(row)
    similarity = float(store.similarities(sample)[place])
    measured = "" if np.isnan(similarity) else f", similarity {similarity:.2f}"
    top, left, bottom, right = by_patch.box[position].tolist()
    share = (bottom - top) * (right - left) / (store.image_shape[1] * store.image_shape[2])
    inside = "real" if bool(by_patch.inside_real[position]) else "counterpart"
    return (
        f"sample {sample}",
        f"row {row}{measured}",
        f"lambda {float(by_pixel.lam[position]):.2f}",
        f"box {share:.0%}: {inside}",
    )


def _draw(
    title: str,
    subtitle: str,
    headings: Sequence[str],
    captions: Sequence[Sequence[str]],
    images: Sequence[Sequence[Image.Image]],
) -> Image.Image:
    fonts = _Fonts(*(ImageFont.load_default(size) for size in (22, 16, 13)))
    cell_width, cell_height = images[0][0].size
    head = 96
    heading_height, caption_height = 30, 34
    line_height = heading_height + cell_height + caption_height
    sheet = Image.new(
        "RGB",
        (2 * _MARGIN + 4 * cell_width + 3 * _GAP, head + len(images) * line_height + _MARGIN // 2),
        _PAPER,
    )
    pen = ImageDraw.Draw(sheet)
    across = sheet.width - 2 * _MARGIN
    pen.text((_MARGIN, 18), _fitted(title, fonts.title, across), fill=_INK, font=fonts.title)
    pen.text((_MARGIN, 46), _fitted(subtitle, fonts.caption, across), fill=_GREY, font=fonts.caption)
    for column, name in enumerate(COLUMNS):
        x = _MARGIN + column * (cell_width + _GAP)
        pen.text((x, 72), _fitted(name, fonts.heading, cell_width), fill=_INK, font=fonts.heading)
    y = head
    for heading, texts, pictures in zip(headings, captions, images, strict=True):
        pen.line((_MARGIN, y, sheet.width - _MARGIN, y), fill=_RULE)
        pen.text((_MARGIN, y + 7), _fitted(heading, fonts.heading, across), fill=_INK, font=fonts.heading)
        for column, (text, picture) in enumerate(zip(texts, pictures, strict=True)):
            x = _MARGIN + column * (cell_width + _GAP)
            sheet.paste(picture, (x, y + heading_height))
            below = y + heading_height + cell_height + 5
            pen.text((x, below), _fitted(text, fonts.caption, cell_width), fill=_GREY, font=fonts.caption)
        y += line_height
    return sheet


def _picture(image: Tensor) -> Image.Image:
    """uint8 [C, H, W] at the size of the sheet; small images keep their pixels visible."""
    channels = image.expand(3, -1, -1) if image.shape[0] == 1 else image[:3]
    picture = Image.fromarray(channels.permute(1, 2, 0).contiguous().numpy())
    return resized(picture, -(-_SMALLEST // max(picture.size)), _LARGEST)


def resized(picture: Image.Image, factor: int, largest: int) -> Image.Image:
    """Enlarged `factor` times with its pixels visible, if that is above 1; else with sides of `largest` at most."""
    if factor > 1:
        return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    scale = largest / max(picture.size)
    if scale >= 1:
        return picture
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _readable(text: str, otherwise: str) -> str:
    """Text in the letters that Pillow's built-in font has; `otherwise` where little of it would be left."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    plain = "".join(character for character in plain if character.isprintable()).strip()
    return plain if 2 * len(plain) >= len(text) else otherwise


def _fitted(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int) -> str:
    """The text, cut to that many pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
