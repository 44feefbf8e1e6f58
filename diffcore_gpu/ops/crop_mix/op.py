"""The fused operator: crop, resize, mirror, normalize and mix raw images, in one launch on a GPU.

The operators are `torch.ops.diffcore.crop_mix_store` (draws plan and crops itself), `crop_mix_store_plan` (and returns
them) and `crop_mix_plan` (they are given). What they compute is `crop_mix_reference`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from diffcore_gpu.ops.crop_mix.cpu_numba import crop_mix_compiled, crops_compiled, draw_compiled, make_ready
from diffcore_gpu.ops.mix.cpu_torch import Shards
from diffcore_gpu.ops.mix.op import as_dense
from diffcore_gpu.ops.resized_crop.op import (
    check_bytes,
    check_output,
    empty_output,
    output_size,
    resize,
    write_normalized,
)
from diffcore_gpu.ops.resized_crop.reference import clip_crop
from diffcore_gpu.ops.runtime.arguments import DRAW_SCHEMA, DrawArguments, Source
from diffcore_gpu.ops.runtime.launch import Launch
from diffcore_gpu.ops.runtime.normalization import affine_on
from diffcore_gpu.ops.runtime.output_cpu import empty_output_of
from diffcore_gpu.ops.runtime.watch import look
from diffcore_gpu.plan import MixPlan
from diffcore_gpu.plan.crops import CropParameters, CropPlan, central_crop, draw_crops_from
from diffcore_gpu.plan.fields import PLAN_WITH_CROPS, check_plan, schema_of

if TYPE_CHECKING:
    from diffcore_gpu.kernels import DrawnCrops, Launched

_LIBRARY = torch.library.Library("diffcore", "FRAGMENT")
_CROPS = "Tensor side_table, int[] crop_parameters, float[] ratio, bool same"
_OUTPUT = "int[] size, ScalarType dtype, bool channels_last"
_TAGS = (torch.Tag.needs_exact_strides,)
_LIBRARY.define(f"crop_mix_store(Tensor images, {DRAW_SCHEMA}, {_CROPS}, {_OUTPUT}) -> Tensor", tags=_TAGS)
_LIBRARY.define(
    f"crop_mix_store_plan(Tensor images, {DRAW_SCHEMA}, {_CROPS}, {_OUTPUT}) -> (Tensor, Tensor)", tags=_TAGS
)
_LIBRARY.define(
    f"crop_mix_plan(Tensor images, Tensor counterparts, Tensor norm, {schema_of(crops=True)}, {_OUTPUT}) -> Tensor",
    tags=_TAGS,
)
_NUM_DRAWN = len(DrawArguments._fields)


class _Crops(NamedTuple):
    """The arguments of `_CROPS` and `_OUTPUT`."""

    side_table: Tensor
    parameters: Sequence[int]
    ratio: Sequence[float]
    same: bool
    size: Sequence[int]
    dtype: torch.dtype
    channels_last: bool

    def empty(self, images: Tensor) -> Tensor:
        return empty_output(images, self.size[0], self.size[1], self.dtype, self.channels_last)

    def draw(self, images: Tensor, drawn: DrawArguments) -> MixPlan:
        """The plan with its crops, on the CPU."""
        image_size = images.shape[-2:]
        counterpart_size = drawn.shards[0].shape[-2:] if drawn.shards else image_size
        if crops_compiled():
            return draw_compiled(drawn, self, self.size, image_size, counterpart_size)
        plan = drawn.draw(self.size[0], self.size[1])
        return with_crops(
            plan, drawn.indices, CropParameters(*self.parameters), self.ratio, self.side_table, image_size,
            counterpart_size, seed=drawn.seed, round=drawn.round, same=self.same,
        )  # fmt: skip

    def for_kernel(self, images: Tensor, store: Tensor) -> DrawnCrops:
        from diffcore_gpu.kernels import DrawnCrops

        return DrawnCrops(
            central_crop(images.shape[-2], images.shape[-1], self.ratio),
            central_crop(store.shape[-2], store.shape[-1], self.ratio),
            self.same,
        )


def with_crops(
    plan: MixPlan,
    index: Tensor,
    parameters: CropParameters,
    ratio: Sequence[float],
    side_table: Tensor,
    image_size: Sequence[int],
    counterpart_size: Sequence[int],
    *,
    seed: int,
    round: Tensor,
    same: bool,
) -> MixPlan:
    """A plan with the crops of the images and of their counterparts, drawn as `draw_crops_from` does.

    Args:
        plan: the plan of the B samples.
        index: int64 [B].
        parameters: `RandomResizedCropMirror.parameters`.
        ratio: its interval of aspect ratios.
        side_table: its `side_table`, on index's device.
        image_size: (height, width) of the images in pixels.
        counterpart_size: (height, width) of the counterparts in pixels.
        seed: 64-bit key.
        round: int64, one element.
        same: a counterpart is cropped and mirrored as its image.
    """

    def drawn(size: Sequence[int], counterpart: bool) -> CropPlan:
        return draw_crops_from(
            index, parameters, ratio, side_table, height=size[0], width=size[1], seed=seed, round=round,
            counterpart=counterpart,
        )  # fmt: skip

    real = drawn(image_size, False)
    generated = real if same else drawn(counterpart_size, True)
    return replace(
        plan, crop=real.crop, mirror=real.mirror, counterpart_crop=generated.crop, counterpart_mirror=generated.mirror
    )


def _write_cpu(images: Tensor, out: Tensor, shards: Sequence[Tensor], norm: Tensor, plan: MixPlan) -> None:
    """Resize, mix by eqs. 6–8 in float32, normalize and write, image by image."""
    if crops_compiled():
        crop_mix_compiled(images, out, shards, norm, plan)
        return
    *mix, crops, mirrors, other_crops, other_mirrors = plan.tensors()
    rows = Shards(shards)
    size = (out.shape[-2], out.shape[-1])
    fields = zip(
        *(field.tolist() for field in mix), clip_crop(crops, *images.shape[-2:]), mirrors.tolist(),
        clip_crop(other_crops, *(shards[0] if shards else images).shape[-2:]), other_mirrors.tolist(), strict=True,
    )  # fmt: skip
    for sample, (row, pixel, lam, box, inside_real, crop, mirror, other_crop, other_mirror) in enumerate(fields):
        if row < 0 or (pixel and lam == 1):
            shown = resize(images[sample], crop, size, mirror)
        elif pixel and lam == 0:
            shown = resize(rows[row], other_crop, size, other_mirror)
        else:
            real = resize(images[sample], crop, size, mirror)
            generated = resize(rows[row], other_crop, size, other_mirror)
            if pixel:
                shown = real.mul_(lam).add_(generated, alpha=1 - lam)
            else:
                top, left, bottom, right = box
                shown, patch = (generated, real) if inside_real else (real, generated)
                shown[:, top:bottom, left:right] = patch[:, top:bottom, left:right]
        write_normalized(out[sample], shown, norm)


def _run_cpu(images: Tensor, arguments: Sequence[Any]) -> tuple[Tensor, MixPlan]:
    drawn, crops = DrawArguments(*arguments[:_NUM_DRAWN]), _Crops(*arguments[_NUM_DRAWN:])
    out = empty_output_of((*images.shape[:2], crops.size[0], crops.size[1]), crops.dtype, crops.channels_last)
    plan = crops.draw(images, drawn)
    if crops_compiled():
        make_ready(out.dtype)
    look(drawn.shards, drawn.pair_ptr, drawn.indices)  # last: what is cut short between this and the mix is not noticed
    _write_cpu(images, out, drawn.shards, drawn.norm, plan)
    drawn.step()
    return out, plan


def _run_triton(images: Tensor, arguments: Sequence[Any], packed: Tensor | None = None) -> Tensor:
    from diffcore_gpu.kernels import launch_crop_mix_store  # Triton is absent where there is no GPU for it

    drawn, crops = DrawArguments(*arguments[:_NUM_DRAWN]), _Crops(*arguments[_NUM_DRAWN:])
    out = crops.empty(images)
    with torch.cuda.device_of(images):
        if images.numel():
            store = drawn.shards[0]
            launch_crop_mix_store(
                images, out, store.shape[-2:], drawn.for_kernel(), crops.for_kernel(images, store), packed,
                PLAN_WITH_CROPS.places,
            )  # fmt: skip
        else:
            drawn.step()
    return out


def launch_again(source: Source, crop_arguments: Sequence[Any], advance: bool) -> Launch:
    """The launch of `crop_mix_store` with one source and the arguments of `_CROPS` and `_OUTPUT`, for `KeptLaunch`."""
    crops = _Crops(*crop_arguments)

    def launch(
        images: Tensor, out: Tensor, index: Tensor, labels: Tensor | None, round: Tensor, status: Tensor
    ) -> Launched:
        from diffcore_gpu.kernels import launch_crop_mix_store

        drawn = source.arguments(index, labels, round, status, advance).for_kernel()
        store = source.shards[0]
        return launch_crop_mix_store(images, out, store.shape[-2:], drawn, crops.for_kernel(images, store))

    return launch


def _crop_mix_store_cpu(images: Tensor, *arguments: Any) -> Tensor:
    return _run_cpu(images, arguments)[0]


def _crop_mix_store_plan_cpu(images: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    out, plan = _run_cpu(images, arguments)
    return out, PLAN_WITH_CROPS.pack(vars(plan))


def _crop_mix_store_cuda(images: Tensor, *arguments: Any) -> Tensor:
    return _run_triton(images, arguments)


def _crop_mix_store_plan_cuda(images: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    packed = PLAN_WITH_CROPS.empty(images.shape[0], device=images.device)
    return _run_triton(images, arguments, packed), packed


def _crop_mix_plan_cpu(images: Tensor, counterparts: Tensor, norm: Tensor, *rest: Any) -> Tensor:
    *plan, size, dtype, channels_last = rest
    out = empty_output_of((*images.shape[:2], size[0], size[1]), dtype, channels_last)
    plan[0] = torch.where(plan[0] < counterparts.shape[0], plan[0], -1)  # the kernel does the same
    _write_cpu(images, out, [counterparts], norm, MixPlan(*plan))
    return out


def _crop_mix_plan_cuda(images: Tensor, counterparts: Tensor, norm: Tensor, *rest: Any) -> Tensor:
    from diffcore_gpu.kernels import launch_crop_mix_plan

    *plan, size, dtype, channels_last = rest
    out = empty_output(images, size[0], size[1], dtype, channels_last)
    with torch.cuda.device_of(images):
        if images.numel():
            launch_crop_mix_plan(images, out, counterparts, norm, [field.contiguous() for field in plan])
    return out


def _fake(images: Tensor, *arguments: Any) -> Tensor:
    size, dtype, channels_last = arguments[-3:]
    return empty_output(images, size[0], size[1], dtype, channels_last)


for _name, _cpu, _cuda in (
    ("crop_mix_store", _crop_mix_store_cpu, _crop_mix_store_cuda),
    ("crop_mix_store_plan", _crop_mix_store_plan_cpu, _crop_mix_store_plan_cuda),
    ("crop_mix_plan", _crop_mix_plan_cpu, _crop_mix_plan_cuda),
):
    _LIBRARY.impl(_name, _cpu, "CPU")
    _LIBRARY.impl(_name, _cuda, "CUDA")
torch.library.register_fake("diffcore::crop_mix_store", _fake, lib=_LIBRARY)
torch.library.register_fake("diffcore::crop_mix_plan", _fake, lib=_LIBRARY)
torch.library.register_fake(
    "diffcore::crop_mix_store_plan",
    lambda images, *rest: (_fake(images, *rest), PLAN_WITH_CROPS.empty(images.shape[0], device=images.device)),
    lib=_LIBRARY,
)


def crop_mix(
    images: Tensor,
    counterparts: Tensor,
    plan: MixPlan,
    size: int | tuple[int, int],
    *,
    mean: Sequence[float] | Tensor | float | None = None,
    std: Sequence[float] | Tensor | float | None = None,
    dtype: torch.dtype = torch.float32,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Tensor:
    """Crop, resize and mirror images and counterparts, mix them by eqs. 6–8 and normalize; on a GPU in one launch.

    Bilinear with torch's antialiasing where it shrinks. The plan's box counts in pixels of the output.

    Args:
        images: uint8 [B, C, H, W] as a loader yields them; contiguous and channels_last without a copy.
        counterparts: uint8 [N, C, H', W'] on images' device; row r of the plan is ``counterparts[r]``.
        plan: the plan of the B samples with crops and mirror flags, on the same device; a row of N or more counts as
            none, and crops are clipped to their image.
        size: (h, w) of the output in pixels, or one number for both.
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
    if counterparts.dtype != torch.uint8 or counterparts.dim() != 4 or counterparts.shape[1] != images.shape[1]:
        raise ValueError(
            f"counterparts must be uint8 [N, {images.shape[1]}, H, W], got "
            f"{str(counterparts.dtype).removeprefix('torch.')} {list(counterparts.shape)}."
        )
    if counterparts.device != images.device:
        raise ValueError(f"counterparts lies on {counterparts.device}, but the images on {images.device}.")
    check_plan(plan, images, crops=True)
    check_output(dtype, memory_format)
    norm = affine_on(mean, std, images.shape[1], images.device)
    mixed: Tensor = torch.ops.diffcore.crop_mix_plan(
        as_dense(images), counterparts.contiguous(), norm, *(value.contiguous() for value in plan.tensors()),
        [height, width], dtype, memory_format == torch.channels_last,
    )  # fmt: skip
    return mixed
