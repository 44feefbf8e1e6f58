"""Small pictures for the report, from tensors and files."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diffcore_gpu.errors import GenerationError, PackError
from diffcore_gpu.packing.colour import ImageProblemError
from diffcore_gpu.packing.decode import decode, pillow_ready
from diffcore_gpu.packing.options import Fit

LONGEST_SIDE = 160
"""Of a thumbnail, in pixels; a smaller image keeps its size."""
CRISP_SIDE = 64
"""Up to which an image is kept without loss, and shown enlarged with its pixels visible."""
_BYTES = 12_000  # of one embedded picture; noise, which compresses worst, is stored more coarsely
_QUALITIES = (82, 68, 50, 30, 15)


def shrink(image: Tensor) -> Image.Image:
    """An RGB thumbnail of a tensor.

    Args:
        image: uint8 [3, H, W] or [1, H, W] on the CPU.

    Raises:
        ValueError: it is something else.
    """
    if image.ndim != 3 or image.shape[0] not in (1, 3) or image.dtype != torch.uint8 or 0 in image.shape:
        raise ValueError(f"expected an image uint8 [3, H, W], got {image.dtype} {list(image.shape)}.")
    pixels = image.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
    picture = Image.fromarray(pixels)
    return picture.resize(_fitting(picture.size), Image.Resampling.BICUBIC, reducing_gap=3.0)


def shrink_file(path: Path, size: tuple[int, int] | None = None) -> Image.Image:
    """An RGB thumbnail of a file.

    Args:
        path: of any image that `diffcore pack` takes.
        size: (width, height); the middle of the image is cut to that aspect ratio. None: the image's own.

    Raises:
        GenerationError: the file is missing, or no image.
    """
    try:
        with pillow_ready():
            if size is None:
                with Image.open(path) as image:
                    size = _fitting(image.size)
            pixels = decode(path, size[1], size[0], Fit.CROP).pixels
    except ImageProblemError as error:
        raise GenerationError(f"{path} cannot be shown in the report: {error.detail or error.kind}.") from error
    except (OSError, PackError, Image.DecompressionBombError) as error:
        raise GenerationError(f"{path} cannot be shown in the report: it cannot be read as an image.") from error
    return Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def data_uri(picture: Image.Image) -> str:
    """The picture as a data URI of about 16 kB at most: PNG up to `CRISP_SIDE` pixels, otherwise JPEG."""
    buffer = io.BytesIO()
    if is_crisp(picture):
        picture.save(buffer, "PNG", optimize=True)
        return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    for quality in _QUALITIES:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= _BYTES:
            break
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def is_crisp(picture: Image.Image) -> bool:
    """Whether the picture is so small that its pixels are to be seen."""
    return max(picture.size) <= CRISP_SIDE


def _fitting(size: tuple[int, int]) -> tuple[int, int]:
    scale = min(1.0, LONGEST_SIDE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
