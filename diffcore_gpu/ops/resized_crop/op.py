"""Crop, resize, mirror and normalize with arguments of its own for each sample: registration and public op."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from diffcore_gpu.ops.crop_mix.cpu_numba import crops_compiled, resized_crop_compiled
from diffcore_gpu.ops.mix.op import as_dense
from diffcore_gpu.ops.resized_crop.reference import clip_crop
from diffcore_gpu.ops.runtime.normalization import affine_on
from diffcore_gpu.ops.runtime.output_cpu import empty_output_of

OUTPUT_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.uint8)

_LIBRARY = torch.library.Library("diffcore", "FRAGMENT")
_LIBRARY.define(
    "resized_crop(Tensor images, Tensor crop, Tensor mirror, Tensor norm, int height, int width, ScalarType dtype, "
    "bool channels_last) -> Tensor",
    tags=(torch.Tag.needs_exact_strides,),
)


def resize(image: Tensor, box: tuple[int, int, int, int], size: tuple[int, int], mirror: bool) -> Tensor:
    """A box (top, left, bottom, right) of one uint8 image [C, H, W], resized: new float32 [C, h, w] in [0, 255]."""
    top, left, bottom, right = box
    source = image[None, :, top:bottom, left:right].to(torch.float32)
    resized = interpolate(source, size, mode="bilinear", align_corners=False, antialias=True)[0]
    return resized.flip(-1) if mirror else resized


def write_normalized(out: Tensor, values: Tensor, norm: Tensor) -> None:
    """Write float32 [C, h, w] in [0, 255], which is used up: rounded to bytes, or normalized by `affine_of`'s norm."""
    if out.dtype == torch.uint8:
        out.copy_(values.round_())
    else:
        scale, shift = norm[0, :, 0].view(-1, 1, 1), norm[0, :, 2].view(-1, 1, 1)
        out.copy_(values.mul_(scale).add_(shift))


def empty_output(images: Tensor, height: int, width: int, dtype: torch.dtype, channels_last: bool) -> Tensor:
    """An uninitialized batch of that size for these images."""
    return torch.empty(
        (images.shape[0], images.shape[1], height, width),
        dtype=dtype,
        device=images.device,
        memory_format=torch.channels_last if channels_last else torch.contiguous_format,
    )


def _resized_crop_cpu(
    images: Tensor, crop: Tensor, mirror: Tensor, norm: Tensor, height: int, width: int, dtype: torch.dtype,
    channels_last: bool,
) -> Tensor:  # fmt: skip
    out = empty_output_of((*images.shape[:2], height, width), dtype, channels_last)
    if crops_compiled():
        resized_crop_compiled(images, out, norm, crop, mirror)
        return out
    boxes = clip_crop(crop, *images.shape[-2:])
    for sample, (box, flip) in enumerate(zip(boxes, mirror.tolist(), strict=True)):
        write_normalized(out[sample], resize(images[sample], box, (height, width), flip), norm)
    return out


def _resized_crop_cuda(
    images: Tensor, crop: Tensor, mirror: Tensor, norm: Tensor, height: int, width: int, dtype: torch.dtype,
    channels_last: bool,
) -> Tensor:  # fmt: skip
    from diffcore_gpu.kernels import launch_resized_crop  # Triton is absent where there is no GPU that it compiles for

    out = empty_output(images, height, width, dtype, channels_last)
    with torch.cuda.device_of(images):
        if out.numel():
            launch_resized_crop(images, out, crop.contiguous(), mirror.contiguous(), norm)
    return out


_LIBRARY.impl("resized_crop", _resized_crop_cpu, "CPU")
_LIBRARY.impl("resized_crop", _resized_crop_cuda, "CUDA")
torch.library.register_fake(
    "diffcore::resized_crop",
    lambda images, crop, mirror, norm, height, width, dtype, channels_last: empty_output(
        images, height, width, dtype, channels_last
    ),
    lib=_LIBRARY,
)


def check_bytes(images: Tensor) -> None:
    """Refuse what is not a batch as a loader yields it.

    Raises:
        ValueError: not uint8 [B, C, H, W].
    """
    if images.dim() != 4 or images.dtype != torch.uint8 or 0 in images.shape[1:]:
        raise ValueError(
            f"images must be uint8 [B, C, H, W], got {str(images.dtype).removeprefix('torch.')} {list(images.shape)}."
        )


def output_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of an output in pixels.

    Raises:
        ValueError: one is below 1.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise ValueError(f"size must be at least 1 × 1, got {height} × {width}.")
    return height, width


def check_output(dtype: torch.dtype, memory_format: torch.memory_format) -> None:
    """Refuse a dtype or a memory format that no crop is written in.

    Raises:
        ValueError: naming those that are.
    """
    if dtype not in OUTPUT_DTYPES:
        raise ValueError(f"dtype must be float32, float16, bfloat16 or uint8, got {dtype}.")
    if memory_format not in (torch.contiguous_format, torch.channels_last):
        raise ValueError(f"memory_format must be contiguous or channels_last, got {memory_format}.")


def resized_crop(
    images: Tensor,
    crop: Tensor,
    size: int | tuple[int, int],
    *,
    mirror: Tensor | None = None,
    mean: Sequence[float] | Tensor | float | None = None,
    std: Sequence[float] | Tensor | float | None = None,
    dtype: torch.dtype = torch.float32,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Tensor:
    """Crop each image by its own box, resize, mirror and normalize it; on a GPU in one kernel launch.

    Bilinear with torch's antialiasing where it shrinks, as ``torchvision.transforms.v2.functional.resized_crop`` has
    it for float images. Boxes and mirror flags are per-sample tensors on the device, so nothing waits for the host;
    `draw_crops` draws them.

    Args:
        images: uint8 [B, C, H, W] as a loader yields them; contiguous and channels_last without a copy.
        crop: int32 [B, 4], (top, left, bottom, right) in pixels of the source, half-open; clipped to the image and to
            at least one pixel.
        size: (h, w) of the output in pixels, or one number for both.
        mirror: bool [B], True: flip left and right; None: none is flipped.
        mean: C numbers to subtract, in units of [0, 1]; None: 0. Not used for uint8 output.
        std: C numbers to divide by; None: 1. Not used for uint8 output.
        dtype: of the output: float32, float16, bfloat16, or uint8 (rounded to nearest).
        memory_format: of the output: contiguous or channels_last.

    Returns:
        [B, C, h, w] of that dtype and memory format: (v / 255 − mean) / std, or v for uint8.

    Raises:
        ValueError: shapes, dtypes or devices that do not fit together.
    """
    check_bytes(images)
    height, width = output_size(size)
    batch = images.shape[0]
    if crop.dtype != torch.int32 or list(crop.shape) != [batch, 4]:
        raise ValueError(f"crop must be int32 [{batch}, 4], got {crop.dtype} {list(crop.shape)}.")
    if mirror is None:
        mirror = torch.zeros(batch, dtype=torch.bool, device=images.device)
    if mirror.dtype != torch.bool or list(mirror.shape) != [batch]:
        raise ValueError(f"mirror must be bool [{batch}], got {mirror.dtype} {list(mirror.shape)}.")
    for name, tensor in (("crop", crop), ("mirror", mirror)):
        if tensor.device != images.device:
            raise ValueError(f"{name} lies on {tensor.device}, but the images on {images.device}.")
    check_output(dtype, memory_format)
    norm = affine_on(mean, std, images.shape[1], images.device)
    resized: Tensor = torch.ops.diffcore.resized_crop(
        as_dense(images), crop.contiguous(), mirror.contiguous(), norm, height, width, dtype,
        memory_format == torch.channels_last,
    )  # fmt: skip
    return resized
