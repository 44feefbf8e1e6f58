"""Turn a decoded image of any pixel format into 8-bit RGB, and say what had to be done to it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from diffcore_gpu.packing.findings import Kind

_GREY_MODES = ("1", "L", "LA", "La")
_PALETTE_MODES = ("P", "PA")
_OTHER_SPACES = ("YCbCr", "HSV")
_RGB_MODES = ("RGB", "RGBX", "RGBA", "RGBa")


class Conversion(NamedTuple):
    """Something that was done to an image to make it 8-bit RGB."""

    kind: Kind
    detail: str


class ImageProblemError(Exception):
    """A file cannot be used; `kind` and `detail` say why."""

    def __init__(self, kind: Kind, detail: str = "") -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.kind} ({self.detail})" if self.detail else str(self.kind)


def to_rgb(image: Image.Image) -> tuple[Image.Image, tuple[Conversion, ...]]:
    """Convert to mode RGB: transparency laid on white, 16 bits scaled to 8.

    Raises:
        ImageProblemError: the pixels have no agreed meaning as a picture (32-bit integers, floating point, Lab).
    """
    mode = image.mode
    if mode.startswith("I"):
        return _from_16_bit(image)
    conversions = []
    if mode in _GREY_MODES:
        conversions.append(Conversion(Kind.GREY, "copied to three channels"))
    elif mode in _PALETTE_MODES:
        conversions.append(Conversion(Kind.PALETTE, "looked up"))
    elif mode == "CMYK":
        conversions.append(Conversion(Kind.CMYK, "converted to RGB without a colour profile"))
    elif mode in _OTHER_SPACES:
        conversions.append(Conversion(Kind.COLOUR_SPACE, f"{mode} converted to RGB"))
    elif mode not in _RGB_MODES:
        raise ImageProblemError(Kind.UNSUPPORTED, f"Pillow mode {mode}")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        alpha = rgba.getchannel("A")
        if alpha.getextrema()[0] != 255:
            conversions.append(Conversion(Kind.TRANSPARENCY, "laid on white"))
            white = Image.new("RGB", image.size, (255, 255, 255))
            white.paste(rgba.convert("RGB"), mask=alpha)
            return white, tuple(conversions)
        image = rgba
    return image.convert("RGB"), tuple(conversions)


def _from_16_bit(image: Image.Image) -> tuple[Image.Image, tuple[Conversion, ...]]:
    values = np.asarray(image).astype(np.int64)
    # Pillow keeps some 16-bit formats in mode I, whose 32 bits hold other files' values at unknown scales.
    if values.min() < 0 or values.max() > 65535:
        raise ImageProblemError(Kind.UNSUPPORTED, "32-bit integers")
    grey = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    return grey.convert("RGB"), (
        Conversion(Kind.SIXTEEN_BIT, "scaled to 8 bits"),
        Conversion(Kind.GREY, "copied to three channels"),
    )
