"""Pictures inside a page, as data URIs."""

from __future__ import annotations

import base64
import io
import struct
from dataclasses import dataclass

from markupsafe import Markup
from PIL import Image

CRISP_SIDE = 64
"""Pixels up to which an image is kept without loss, and shown enlarged with its pixels visible."""
_BYTES = 12_000  # of one embedded picture; noise, which compresses worst, is stored more coarsely
_QUALITIES = (82, 68, 50, 30, 15)


@dataclass(frozen=True)
class Picture:
    """A picture that a page holds.

    Attributes:
        uri: its data URI.
        width, height: in pixels.
        crisp: whether it is so small that its pixels are to be seen.
    """

    uri: Markup
    width: int
    height: int
    crisp: bool


def embed(image: Image.Image) -> Picture:
    """An RGB image in about 16 kB at most: as PNG up to `CRISP_SIDE` pixels, otherwise as JPEG."""
    buffer = io.BytesIO()
    crisp = max(image.size) <= CRISP_SIDE
    if crisp:
        image.save(buffer, "PNG", optimize=True)
        return Picture(_uri("png", buffer), *image.size, crisp)
    for quality in _QUALITIES:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= _BYTES:
            break
    return Picture(_uri("jpeg", buffer), *image.size, crisp)


def embed_png(png: bytes) -> Picture:
    """A PNG file as it is."""
    width, height = struct.unpack(">II", png[16:24])
    return Picture(_uri("png", io.BytesIO(png)), width, height, False)


def _uri(kind: str, data: io.BytesIO) -> Markup:
    return Markup(f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}")
