"""Decode one image file of any kind to 8-bit RGB at the store's size, and say what had to be done to it.

What is decided here, once:

- Transparent images are laid on white, as a viewer shows them. What lies under full transparency is arbitrary.
- 16-bit images are scaled to 8 bits (257 steps of 65535 become one of 255), not clipped.
- Of an animated image the first frame is taken. (The second picture of a phone's MPO file is no animation.)
- The EXIF orientation is *not* applied, because ImageFolder's loader does not apply it to the real images either;
  a file that asks for it is named in the report.
- Colour profiles are not applied; CMYK is converted by Pillow's formula.
- An image with a side under 8 pixels, and smaller than the store's, is too small to show anything of its class.
- More than 89 million pixels (Pillow's own bound against decompression bombs) are not decoded.
"""

from __future__ import annotations

import io
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from diffcore_gpu.errors import PackError
from diffcore_gpu.packing.colour import Conversion, ImageProblemError, to_rgb
from diffcore_gpu.packing.findings import Kind
from diffcore_gpu.packing.options import Fit

MIN_SIDE = 8
"""Sides in pixels below which an image smaller than the store's is skipped."""
MAX_PIXELS = 89_478_485
"""Pixels above which an image is not decoded."""
MAX_FILE_BYTES = 1 << 30
"""Size in bytes above which a file is not read."""

# Pillow raises these, and no others that a file can cause, on damaged data.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
)
# No EPS (it starts Ghostscript), no containers of measurements: only formats in which people keep pictures.
_FORMATS = ("PNG", "JPEG", "PPM", "BMP", "DIB", "TIFF", "WEBP", "GIF", "AVIF", "JPEG2000")
GENERATED_EXTENSIONS = (
    *(".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"),
    *(".gif", ".avif", ".apng", ".jfif", ".jp2"),
)
"""What is taken for an image in a folder of generated ones: ImageFolder's extensions and five more."""


class Decoded(NamedTuple):
    """A decoded image.

    Attributes:
        pixels: uint8 [3, height, width].
        conversions: what was done to it; empty for an ordinary RGB image.
        enlarged: whether a side of the file is smaller than the store's.
    """

    pixels: npt.NDArray[np.uint8]
    conversions: tuple[Conversion, ...]
    enlarged: bool


@contextmanager
def pillow_ready() -> Iterator[None]:
    """Prepare Pillow for decoding in threads started inside; its warnings say nothing that the report does not.

    The filters of `warnings` belong to the process, not to a thread: enter this once, around the threads.
    """
    Image.init()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `decode` looks at the size itself
        yield


def decode(path: Path, height: int, width: int, fit: Fit) -> Decoded:
    """Read a file once and decode it to the store's size. Call inside `pillow_ready`.

    Args:
        path: the file.
        height: of the result, in pixels.
        width: of the result, in pixels.
        fit: what to do about another aspect ratio.

    Raises:
        ImageProblemError: the file cannot be used.
        PackError: the disk or the network failed while reading; the file itself may be sound.
    """
    return decode_bytes(read_image(path), height, width, fit)


def read_image(path: Path) -> bytes:
    """The bytes of an image file.

    Raises:
        ImageProblemError: it is missing, empty, too large, or no file.
        PackError: the disk or the network failed while reading.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ImageProblemError(Kind.NOT_AN_IMAGE, "not a regular file")
        if status.st_size == 0:
            raise ImageProblemError(Kind.EMPTY_FILE)
        if status.st_size > MAX_FILE_BYTES:
            raise ImageProblemError(Kind.TOO_LARGE, f"{status.st_size} bytes")
        return path.read_bytes()
    except (FileNotFoundError, PermissionError) as error:
        raise ImageProblemError(Kind.UNREADABLE, error.strerror or "") from error
    except OSError as error:
        # Not the file's fault: a store that lacks an image because a disk hiccuped would be wrong without a word.
        raise PackError(f"{path} cannot be read: {error.strerror}; run again with --resume.") from error


def decode_bytes(data: bytes, height: int, width: int, fit: Fit) -> Decoded:
    """`decode` of what `read_image` gave."""
    with _opened(data) as image:
        _check_size(image, min(MIN_SIDE, height, width))
        conversions = _look(image)
        image.load()
    rgb, colour = to_rgb(image)
    enlarged = image.width < width or image.height < height
    pixels = np.asarray(resize(rgb, height, width, fit))
    return Decoded(np.ascontiguousarray(pixels.transpose(2, 0, 1)), (*conversions, *colour), enlarged)


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    try:
        yield Image.open(io.BytesIO(data), formats=[name for name in _FORMATS if name in Image.OPEN])
    except Image.DecompressionBombError as error:
        raise ImageProblemError(Kind.TOO_LARGE, f"more than {MAX_PIXELS} pixels") from error
    except UnidentifiedImageError as error:
        raise ImageProblemError(Kind.BROKEN, "not an image of a known format") from error
    except _DAMAGE as error:
        text = " ".join(str(error).split())
        kind = Kind.TRUNCATED if "truncated" in text.lower() or isinstance(error, EOFError) else Kind.BROKEN
        raise ImageProblemError(kind, text) from error


def _check_size(image: Image.Image, min_side: int) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise ImageProblemError(Kind.TOO_LARGE, f"{image.width} × {image.height} pixels")
    if min(image.size) < min_side:
        raise ImageProblemError(Kind.TOO_SMALL, f"{image.width} × {image.height} pixels")


def _look(image: Image.Image) -> list[Conversion]:
    """What can be told before the pixels are loaded."""
    conversions = []
    if _is_deep(image):  # first: for PNG, asking for the EXIF data loads the pixels
        conversions.append(Conversion(Kind.SIXTEEN_BIT, "scaled to 8 bits"))
    if image.format != "MPO" and getattr(image, "is_animated", False):
        conversions.append(Conversion(Kind.ANIMATED, "the first frame is taken"))
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    if orientation in range(2, 9):
        conversions.append(Conversion(Kind.ORIENTATION, f"{orientation}, not applied, as in ImageFolder"))
    return conversions


def _is_deep(image: Image.Image) -> bool:
    """Whether this is 16-bit colour, which Pillow scales to 8 bits while it decodes (16-bit grey is left to us)."""
    if not isinstance(image, ImageFile.ImageFile) or image.mode not in ("RGB", "RGBA", "L", "LA"):
        return False
    for tile in image.tile:
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        for argument in arguments:
            if isinstance(argument, str) and ";16" in argument:
                return True
            if image.format == "PPM" and isinstance(argument, int) and argument > 255:
                return True
    return False


def resize(image: Image.Image, height: int, width: int, fit: Fit) -> Image.Image:
    """Resize with Pillow's BICUBIC filter, which widens with the scale: antialiased, and without LANCZOS's ringing.

    ``crop`` covers the target and cuts off evenly what stands over: for a square target exactly torchvision's
    ``Resize(size, BICUBIC)`` followed by ``CenterCrop(size)`` on a PIL image. ``stretch`` ignores the aspect ratio.

    Args:
        image: mode RGB or L.
        height: of the result, in pixels.
        width: of the result, in pixels.
        fit: what to do about the aspect ratio.

    Returns:
        A new image of the same mode.
    """
    source_width, source_height = image.size
    if (source_height, source_width) == (height, width):
        return image
    box = (0.0, 0.0, float(source_width), float(source_height))
    if fit is Fit.CROP:
        # The covering size, cut to whole pixels as torchvision does.
        if source_height * width >= source_width * height:
            cover_height, cover_width = width * source_height // source_width, width
        else:
            cover_height, cover_width = height, height * source_width // source_height
        top, left = round((cover_height - height) / 2), round((cover_width - width) / 2)
        # Only the part that stays is computed; a strip of 8 × 60000 pixels would otherwise be blown up whole.
        down, across = source_height / cover_height, source_width / cover_width
        box = (left * across, top * down, (left + width) * across, (top + height) * down)
        box = (box[0], box[1], min(box[2], float(source_width)), min(box[3], float(source_height)))
    return image.resize((width, height), Image.Resampling.BICUBIC, box=box)
