"""JPEG rows decoded by the GPU that mixes them: torchvision's nvJPEG, on request.

Its pixels may differ from those of the store's own decoder by a level or so, and with the GPU, since it computes the
inverse transform in another way. What the filter accepted is then nearly, not exactly, what a model sees; in return the
bytes that move to the GPU are the encoded ones, and no processor is busy with them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from torch import Tensor

from diffcore_gpu.errors import StoreError, clause
from diffcore_gpu.store.codecs import DecodeError, Jpeg

if TYPE_CHECKING:
    from diffcore_gpu.store.reader import CounterpartStore

Decoder: TypeAlias = Literal["cpu", "nvjpeg"]
DECODERS: tuple[Decoder, ...] = ("cpu", "nvjpeg")

_RGB, _GRAY = 3, 1  # of torchvision's ImageReadMode


def check_decoder(store: CounterpartStore, decoder: Decoder) -> None:
    """Refuse a decoder that cannot decode the rows of this store, here.

    Raises:
        ValueError: there is no such decoder; or "nvjpeg" has no GPU of NVIDIA, no torchvision that was built for it, or
            rows that are not JPEG.
    """
    if decoder not in DECODERS:
        raise ValueError(f"decoder must be one of {', '.join(DECODERS)}, got {decoder!r}.")
    if decoder == "cpu":
        return
    others = sorted({shard.codec for shard in store.manifest.shards} - {Jpeg.name})
    if others:
        raise ValueError(f'decoder="nvjpeg" decodes JPEG rows, but {store.path} has rows of codec {others[0]}.')
    if not torch.cuda.is_available() or torch.version.cuda is None:
        raise ValueError('decoder="nvjpeg" needs a GPU of NVIDIA that torch can use.')
    _operator()


def decode_on_gpu(store: CounterpartStore, rows: Tensor, device: torch.device) -> Tensor:
    """Read rows and decode them on a GPU, on its current stream.

    Args:
        store: that `check_decoder` accepted.
        rows: int64 [n], on the CPU.
        device: the GPU.

    Returns:
        uint8 [n, C, H, W] on the device.

    Raises:
        StoreError: a row is out of range, a file has changed since the store was opened, or a row is damaged.
    """
    if not len(rows):
        return torch.empty((0, *store.image_shape), dtype=torch.uint8, device=device)
    encoded = store.row_bytes(rows)
    for row, data in zip(rows.tolist(), encoded, strict=True):
        try:
            Jpeg.check_header(data, store.image_shape)  # before the GPU takes memory for what a header claims
        except DecodeError as error:
            raise StoreError(f"{store.path}: row {row} cannot be decoded: {clause(error)}.") from error
    mode = _GRAY if store.image_shape[0] == 1 else _RGB
    try:
        images = _operator()([torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in encoded], mode, device)
    except RuntimeError as error:
        raise StoreError(
            f"{store.path}: nvJPEG cannot decode one of {len(rows)} rows from row {int(rows[0])} on: {clause(error)}."
        ) from error
    return torch.stack(list(images))


def _operator() -> Any:
    """torchvision's operator (JPEG files, mode, device) → images: its public function is to be removed, and says so."""
    try:
        torchvision = import_module("torchvision")
        import_module("torchvision.io")
    except ImportError:
        raise ValueError('decoder="nvjpeg" needs torchvision: pip install torchvision.') from None
    if torchvision.version.cuda is None or not hasattr(torch.ops.image, "decode_jpegs_cuda"):
        raise ValueError('decoder="nvjpeg" needs a torchvision that was built with CUDA, which this one was not.')
    return torch.ops.image.decode_jpegs_cuda
