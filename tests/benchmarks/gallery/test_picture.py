"""The picture of a gallery: its text neither overlaps nor is cut, and its images are shown as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from diffcore_gpu.benchmarks.gallery.picture import COLUMNS, draw_gallery, wrapped
from diffcore_gpu.benchmarks.gallery.rows import GalleryRow


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=80), st.integers(20, 200))
def test_wrapped_text_fits_and_loses_nothing(text: str, width: int) -> None:
    font = ImageFont.load_default(13)
    lines = wrapped(text, font, width)
    assert all(font.getlength(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    words = text.split()
    if all(font.getlength(word) <= width for word in words):
        assert " ".join(lines).split() == words  # no word is broken without need


Box = tuple[float, float, float, float]


def drawn_boxes(monkeypatch: pytest.MonkeyPatch, rows: list[GalleryRow]) -> tuple[Image.Image, list[Box], list[Box]]:
    """The picture, and where texts and images were put."""
    texts: list[Box] = []
    images: list[Box] = []
    plain_text, plain_paste = ImageDraw.ImageDraw.text, Image.Image.paste

    def text(self: ImageDraw.ImageDraw, at: tuple[float, float], words: str, **options: Any) -> None:
        if words:
            texts.append(self.textbbox(at, words, font=options["font"]))
        plain_text(self, at, words, **options)

    def paste(self: Image.Image, image: Image.Image, at: tuple[int, int]) -> None:
        images.append((*at, at[0] + image.width, at[1] + image.height))
        plain_paste(self, image, at)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    monkeypatch.setattr(Image.Image, "paste", paste)
    return draw_gallery("A title", "A subtitle " * 30, rows), texts, images


def overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


@pytest.mark.parametrize(("count", "side"), [(1, 32), (3, 100), (8, 224), (11, 150)])
def test_no_text_overlaps_or_is_cut(count: int, side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)
    long = "Black footed Albatross of the Northern Pacific"
    captions = [[f"{long} 0.62", "Unbreakable" * 8 + " 0.38"] if number % 3 else ["Ani"] for number in range(count)]
    rows = [
        GalleryRow("real images", images=images, captions=captions),
        GalleryRow("a method", "a note", images, captions),
        GalleryRow("a method with a long note", "that goes on and on, " * 30, images, captions),
        GalleryRow("a method that fails", failed="because of a reason that takes a while to tell, " * 12),
    ]
    sheet, texts, pictures = drawn_boxes(monkeypatch, rows)
    boxes = texts + pictures
    assert len(pictures) == 3 * count
    assert len({box[1] for box in pictures}) == 3 * -(-count // COLUMNS)
    for number, box in enumerate(boxes):
        assert box[0] >= 0
        assert box[1] >= 0
        assert box[2] <= sheet.width
        assert box[3] <= sheet.height
        assert not any(overlap(box, other) for other in boxes[:number])


def test_images_are_shown_as_they_are() -> None:
    colours = [(255, 0, 0), (0, 255, 0)]
    images = torch.stack(
        [torch.tensor(colour, dtype=torch.uint8).view(3, 1, 1).expand(3, 90, 90) for colour in colours]
    )
    sheet = np.asarray(draw_gallery("t", "s", [GalleryRow("real", images=images, captions=[["a"], ["b"]])]))
    for colour in colours:
        where = np.argwhere((sheet == colour).all(-1))
        assert len(where) == 180 * 180  # twice the size, pixels visible
        assert (where.max(0) - where.min(0) == 179).all()
