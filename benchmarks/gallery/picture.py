"""Draws rows of images with text under each: the look of the contact sheet, with text wrapped and never cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from diffcore_gpu.benchmarks.gallery.rows import GalleryRow
from diffcore_gpu.contact_sheet import resized

COLUMNS = 8
"""Images beside each other at most; longer rows go on below."""
_MARGIN, _GAP = 28, 10
_PAPER, _INK, _GREY, _RULE = (255, 255, 255), (28, 30, 33), (112, 117, 124), (226, 229, 233)
_LARGEST, _COLUMN = 184, 170  # in pixels: side of an image at most, width of a column at least
_NARROWEST = 640  # width in pixels of the whole, for the text in it
_LINE, _HEADING = 17, 30  # heights in pixels of a line of small text, and of a row's heading

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont


@dataclass(frozen=True)
class _Fonts:
    title: Font
    heading: Font
    small: Font


def draw_gallery(title: str, subtitle: str, rows: Sequence[GalleryRow]) -> Image.Image:
    """Draw the rows below each other.

    Args:
        title: stands at the top.
        subtitle: below it, in small letters.
        rows: the first with images.

    Returns:
        An RGB image.
    """
    fonts = _Fonts(*(ImageFont.load_default(size) for size in (22, 16, 13)))
    pictures = [[] if row.images is None else [_picture(image) for image in row.images] for row in rows]
    height_of_image = pictures[0][0].height
    column_width = max(_COLUMN, pictures[0][0].width)
    columns = min(COLUMNS, len(pictures[0]))
    width = max(_NARROWEST, 2 * _MARGIN + columns * (column_width + _GAP) - _GAP)
    across = width - 2 * _MARGIN
    head = wrapped(subtitle, fonts.small, across)
    bodies = [_lines_of(row, pictures[number], columns, fonts, column_width) for number, row in enumerate(rows)]
    failures = [wrapped(f"not shown: {row.failed}", fonts.small, across) if row.failed else [] for row in rows]
    notes = [_notes(row, fonts, across) for row in rows]
    heights = [
        _HEADING
        + _LINE * (len(failure) + len(note))
        + sum(height_of_image + 8 + _LINE * max(map(len, texts)) + 8 for _, texts in body)
        + (8 if failure else 0)
        for body, failure, note in zip(bodies, failures, notes, strict=True)
    ]
    top = 56 + _LINE * len(head)
    sheet = Image.new("RGB", (width, top + sum(heights) + _MARGIN // 2), _PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((_MARGIN, 18), title, fill=_INK, font=fonts.title)
    _write(pen, (_MARGIN, 48), head, _GREY, fonts.small)
    y = top
    for row, body, failure, note, height in zip(rows, bodies, failures, notes, heights, strict=True):
        pen.line((_MARGIN, y, width - _MARGIN, y), fill=_RULE)
        pen.text((_MARGIN, y + 7), row.name, fill=_INK, font=fonts.heading)
        if row.note and not note:
            beside = _MARGIN + fonts.heading.getlength(row.name) + 12
            pen.text((beside, y + 10), row.note, fill=_GREY, font=fonts.small)
        below = y + _HEADING
        for lines in (note, failure):
            _write(pen, (_MARGIN, below), lines, _GREY, fonts.small)
            below += _LINE * len(lines)
        for images, texts in body:
            for column, (image, lines) in enumerate(zip(images, texts, strict=True)):
                x = _MARGIN + column * (column_width + _GAP)
                sheet.paste(image, (x, below))
                _write(pen, (x, below + height_of_image + 5), lines, _GREY, fonts.small)
            below += height_of_image + 16 + _LINE * max(map(len, texts))
        y += height
    return sheet


def wrapped(text: str, font: Font, width: int) -> list[str]:
    """The text in lines of at most that many pixels, broken between words, and inside a word only where it must be."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for character in word:
            if lines[-1] and font.getlength(lines[-1] + character) > width:
                lines.append("")
            lines[-1] += character
    return lines


def _lines_of(
    row: GalleryRow, pictures: Sequence[Image.Image], columns: int, fonts: _Fonts, width: int
) -> list[tuple[Sequence[Image.Image], list[list[str]]]]:
    """Images and their wrapped captions, as many as stand beside each other at a time."""
    texts = [[line for text in caption for line in wrapped(text, fonts.small, width)] for caption in row.captions]
    return [
        (pictures[first : first + columns], texts[first : first + columns])
        for first in range(0, len(pictures), columns)
    ]


def _notes(row: GalleryRow, fonts: _Fonts, across: int) -> list[str]:
    """The note in lines of its own, where it does not fit beside the heading."""
    beside = fonts.heading.getlength(row.name) + 12 + fonts.small.getlength(row.note)
    return wrapped(row.note, fonts.small, across) if row.note and beside > across else []


def _write(
    pen: ImageDraw.ImageDraw, at: tuple[int, int], lines: Sequence[str], fill: tuple[int, ...], font: Font
) -> None:
    for number, line in enumerate(lines):
        pen.text((at[0], at[1] + number * _LINE), line, fill=fill, font=font)


def _picture(image: Tensor) -> Image.Image:
    """uint8 [3, H, W] at the size of the gallery; small images keep their pixels visible."""
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    return resized(picture, _LARGEST // max(picture.size), _LARGEST)
