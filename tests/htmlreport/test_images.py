"""A picture in a page is the picture that was given, or a small copy of it."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from diffcore_gpu.htmlreport.images import CRISP_SIDE, Picture, embed, embed_png


def decoded(picture: Picture) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(picture.uri.partition(",")[2])))


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", [(1, 1), (CRISP_SIDE, 20)])
def test_a_small_image_keeps_its_pixels(size: tuple[int, int]) -> None:
    image = noise(*size)
    picture = embed(image)
    assert picture.crisp
    assert (picture.width, picture.height) == size
    assert picture.uri.startswith("data:image/png;base64,")
    assert decoded(picture).tobytes() == image.tobytes()


def test_a_larger_image_is_small_even_where_it_is_noise() -> None:
    picture = embed(noise(160, 120))
    assert not picture.crisp
    assert decoded(picture).size == (picture.width, picture.height) == (160, 120)
    assert picture.uri.startswith("data:image/jpeg;base64,")
    assert len(picture.uri) < 17_000


def test_a_png_file_is_embedded_as_it_is() -> None:
    buffer = io.BytesIO()
    noise(300, 7).save(buffer, "PNG")
    picture = embed_png(buffer.getvalue())
    assert (picture.width, picture.height) == (300, 7)
    assert base64.b64decode(picture.uri.partition(",")[2]) == buffer.getvalue()
