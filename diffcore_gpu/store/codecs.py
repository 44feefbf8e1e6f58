"""Codecs: how the images of a shard are kept, and the one decoder that each of them is read with.

| codec | bytes of an image | written by | decoder |
|---|---|---|---|
| `raw` | uint8 [C, H, W] | | |
| `jpeg`, `jpeg:QUALITY` | JPEG, baseline, 4:4:4; quality 95 unless it is named | simplejpeg | simplejpeg |
| `webp` | WebP, lossless | Pillow | Pillow |

The pixels that a mix sees must not depend on the machine, so there is one decoder for each codec and no second choice.
simplejpeg is libjpeg-turbo with its accurate integer DCT, which gives the same with and without vector instructions,
and 4:4:4 needs none of the upsampling of chroma that decoders do differently. It writes into memory of ours, and other
threads run meanwhile: on two cores 1.5 times the images per second of Pillow, from which not a pixel differs.

What an encoded image says of its size is compared before memory is taken for its pixels.
"""

from __future__ import annotations

import functools
import io
import math
import struct
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from diffcore_gpu.errors import StoreError, clause
from diffcore_gpu.store.format import RAW
from diffcore_gpu.store.row_threads import for_each

Bytes: TypeAlias = bytes | bytearray | memoryview
Pixels: TypeAlias = npt.NDArray[np.uint8]

JPEG_QUALITY = 95
"""Quality of `jpeg`: on photographs a sixth of the raw bytes, at a mean error of one to two levels of 255."""


class DecodeError(ValueError):
    """The bytes of a row are not an image of the store's form. The message tells what "it", the row, is or lacks.

    Attributes:
        position: of the row among those that were decoded together.
    """

    def __init__(self, message: str, position: int = 0) -> None:
        super().__init__(message)
        self.position = position


@dataclass(frozen=True)
class EncodedImage:
    """An image in the bytes that a shard will hold; `Codec.encoded` makes it, and `CounterpartWriter.add_row` takes it.

    Attributes:
        data: the bytes.
        codec: the name of the codec that they are of.
        image_shape: (C, H, W).
    """

    data: bytes
    codec: str
    image_shape: tuple[int, ...]


class Codec(ABC):
    """How an image becomes the bytes of a row, and these an image again.

    Attributes:
        name: as the manifest names the form of the bytes.
        setting: as it is asked for: the name, with what the bytes were written by where that is not the default.
        decoder: what reads it.
        lossless: whether every pixel comes back.
        share: of the bytes of a photograph's pixels, about, that its image takes.
        max_side: of an image, in pixels.
    """

    name: ClassVar[str]
    decoder: ClassVar[str]
    lossless: ClassVar[bool]
    share: ClassVar[float] = 1.0
    max_side: ClassVar[float] = math.inf

    @property
    def setting(self) -> str:
        """What `codec_named` makes this codec from."""
        return self.name

    def check_shape(self, image_shape: Sequence[int]) -> None:
        """Raise `StoreError` unless images [C, H, W] of this shape can be encoded."""
        channels, height, width = image_shape
        if channels not in (1, 3):
            raise StoreError(f"codec {self.name} holds images of 1 or 3 channels, not of {channels}; use codec raw.")
        if max(height, width) > self.max_side:
            raise StoreError(
                f"codec {self.name} holds images of up to {self.max_side} pixels a side, not of {height}×{width}; "
                "use codec raw."
            )

    def encoded(self, image: Pixels) -> EncodedImage:
        """An image, uint8 [C, H, W] of any strides and of a shape that `check_shape` accepts, in its bytes."""
        return EncodedImage(self.encode(image), self.name, image.shape)

    def seen(self, image: Pixels) -> Pixels:
        """The pixels that a reader of the store will see, uint8 [C, H, W]: the image itself where nothing is lost."""
        return image if self.lossless else self.decoded(self.encoded(image))

    def decoded(self, image: EncodedImage) -> Pixels:
        """The pixels of an image that this codec has encoded, uint8 [C, H, W]."""
        out = np.empty(image.image_shape, np.uint8)
        self.decode(image.data, out)
        return out

    @abstractmethod
    def encode(self, image: Pixels) -> bytes:
        """The bytes of an image, uint8 [C, H, W] of any strides and of a shape that `check_shape` accepts."""

    @abstractmethod
    def decode(self, data: Bytes, out: Pixels) -> None:
        """Write the image of which `data` are the bytes into `out`, uint8 [C, H, W].

        Raises:
            DecodeError: the bytes are damaged, or the image has another shape than `out`.
        """


class Raw(Codec):
    """The pixels as they are."""

    name = RAW
    decoder = "none"
    lossless = True

    def check_shape(self, image_shape: Sequence[int]) -> None:
        """Every shape can be."""

    def encode(self, image: Pixels) -> bytes:
        """See `Codec`."""
        return image.tobytes()

    def decode(self, data: Bytes, out: Pixels) -> None:
        """See `Codec`."""
        if len(data) != out.nbytes:
            raise DecodeError(f"it has {len(data)} bytes, not {out.nbytes}.")
        out[...] = np.frombuffer(data, np.uint8).reshape(out.shape)


@functools.cache
def _simplejpeg() -> Any:
    """The package, loaded for JPEG alone: a machine that was set up without it reads every other store."""
    try:
        import simplejpeg
    except ImportError as error:
        raise StoreError(
            f"JPEG images need the package simplejpeg: pip install simplejpeg ({clause(error)})."
        ) from error
    return simplejpeg


class Jpeg(Codec):
    """Baseline JPEG with as many samples of colour as of brightness (4:4:4).

    Args:
        quality: of libjpeg, in [1, 100].
    """

    name = "jpeg"
    decoder = "simplejpeg (libjpeg-turbo)"
    lossless = False
    share = 0.2
    max_side = 65500

    def __init__(self, quality: int = JPEG_QUALITY) -> None:
        self.quality = quality

    @property
    def setting(self) -> str:
        """See `Codec`."""
        return self.name if self.quality == JPEG_QUALITY else f"{self.name}:{self.quality}"

    def encode(self, image: Pixels) -> bytes:
        """See `Codec`."""
        grey = len(image) == 1
        encoded: bytes = _simplejpeg().encode_jpeg(
            _interleaved(image),
            quality=self.quality,
            colorspace="GRAY" if grey else "RGB",
            colorsubsampling="Gray" if grey else "444",
        )
        return encoded

    def decode(self, data: Bytes, out: Pixels) -> None:
        """See `Codec`."""
        self.check_header(data, out.shape)
        channels, height, width = out.shape
        pixels = _scratch(height, width, channels)
        try:
            _simplejpeg().decode_jpeg(data, "GRAY" if channels == 1 else "RGB", buffer=pixels)
        except ValueError as error:
            raise DecodeError(f"{clause(error)}.") from error
        np.copyto(out, pixels.transpose(2, 0, 1))

    @staticmethod
    def check_header(data: Bytes, image_shape: Sequence[int]) -> None:
        """Raise `DecodeError` unless the header promises an image of that shape."""
        channels, height, width = image_shape
        try:
            found_height, found_width, colours, _ = _simplejpeg().decode_jpeg_header(data)
        except ValueError as error:
            raise DecodeError(f"{clause(error)}.") from error
        _require_size((found_height, found_width), (height, width))
        if colours not in (("Gray",) if channels == 1 else ("YCbCr", "RGB")):
            raise DecodeError(f"it is {colours}, where the store has {channels} channels.")


class WebP(Codec):
    """Lossless WebP; an image of one channel is kept as three equal ones."""

    name = "webp"
    decoder = "Pillow (libwebp)"
    lossless = True
    share = 0.5
    max_side = 8192  # libwebp holds 16383, but Pillow warns of what has more than 89 million pixels

    def encode(self, image: Pixels) -> bytes:
        """See `Codec`."""
        file = io.BytesIO()
        # Method 2 without more effort: 4 % more bytes than libwebp's default, in a third of its time.
        Image.fromarray(_interleaved(_three(image))).save(file, "WEBP", lossless=True, method=2, quality=0)
        return file.getvalue()

    def decode(self, data: Bytes, out: Pixels) -> None:
        """See `Codec`."""
        data = bytes(data)
        # Pillow takes memory for the pixels when it opens a WebP, so its size is read before that.
        _require_size(_lossless_webp_size(data), out.shape[1:])
        try:
            with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
                pixels = np.asarray(image)
        except (OSError, ValueError) as error:
            raise DecodeError(f"{clause(error)}.") from error
        if pixels.shape != (*out.shape[1:], 3):
            raise DecodeError(f"its pixels are {list(pixels.shape)}, not RGB.")
        np.copyto(out, pixels.transpose(2, 0, 1)[: len(out)])


CODECS: dict[str, type[Codec]] = {codec.name: codec for codec in (Raw, Jpeg, WebP)}
"""The codecs, by the names that manifests know."""


def codec_named(setting: object) -> Codec:
    """The codec of a setting: the name of one, or `jpeg:QUALITY`.

    Raises:
        StoreError: there is no such codec.
    """
    name, colon, quality = setting.partition(":") if isinstance(setting, str) else ("", "", "")
    if name == Jpeg.name and colon and quality.isascii() and quality.isdecimal() and len(quality) <= 3:
        if 1 <= int(quality) <= 100:
            return Jpeg(int(quality))
    elif name in CODECS and not colon:
        return CODECS[name]()
    raise StoreError(f"codec must be raw, jpeg, jpeg:QUALITY with a quality of 1 to 100, or webp, not {setting!r}.")


def encode_many(codec: Codec, images: Pixels) -> list[EncodedImage]:
    """Encode images, uint8 [n, C, H, W], in the threads of `for_each`."""
    encoded: dict[int, EncodedImage] = {}

    def encode(position: int) -> None:
        encoded[position] = codec.encoded(images[position])

    for_each(encode, len(images))
    return [encoded[position] for position in range(len(images))]


def decode_many(codec: Codec, blobs: Sequence[Bytes], out: Pixels) -> None:
    """Decode many images at once, in the threads of `for_each`.

    Args:
        codec: of all of them.
        blobs: the bytes of each.
        out: uint8 [n, C, H, W], where n is their number.

    Raises:
        DecodeError: of the first, by its place, that cannot be decoded; `out` then holds some of the images.
    """
    if len(blobs) != len(out):
        raise ValueError(f"{len(blobs)} images do not fill {len(out)} places.")

    def decode(position: int) -> None:
        try:
            codec.decode(blobs[position], out[position])
        except DecodeError as error:
            error.position = position
            raise

    for_each(decode, len(blobs))


_memory = threading.local()


def _scratch(height: int, width: int, channels: int) -> Pixels:
    """Memory of this thread, uint8 [height, width, channels]; fresh pages would cost as much as a copy."""
    size = height * width * channels
    memory: Pixels | None = getattr(_memory, "pixels", None)
    if memory is None or len(memory) != size:
        memory = _memory.pixels = np.empty(size, np.uint8)
    return memory.reshape(height, width, channels)


def _interleaved(image: Pixels) -> Pixels:
    return np.ascontiguousarray(image.transpose(1, 2, 0))


def _three(image: Pixels) -> Pixels:
    return image if len(image) == 3 else np.broadcast_to(image, (3, *image.shape[1:]))


def _require_size(found: Sequence[int], expected: Sequence[int]) -> None:
    if tuple(found) != tuple(expected):
        raise DecodeError(f"it is {found[0]}×{found[1]}, where the store has {expected[0]}×{expected[1]}.")


def _lossless_webp_size(data: bytes) -> tuple[int, int]:
    """Height and width in the header of a WebP file that is one lossless picture and nothing else."""
    if len(data) < 25 or data[:4] != b"RIFF" or data[8:16] != b"WEBPVP8L" or data[20] != 0x2F:
        raise DecodeError("it is not a lossless WebP image.")
    riff, chunk, bits = struct.unpack("<4xI8xIxI", data[:25])
    if riff + 8 != len(data) or chunk + 20 + chunk % 2 != len(data):
        raise DecodeError(f"its header does not describe its {len(data)} bytes.")
    return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
