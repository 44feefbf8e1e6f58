"""The geometry stage of `DiffCoreMix`: what it needs to crop, resize and mirror in the same launch that mixes."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from diffcore_gpu.ops.crop_mix.op import launch_again, with_crops
from diffcore_gpu.ops.mix.op import as_dense
from diffcore_gpu.ops.resized_crop.op import check_bytes, check_output, empty_output
from diffcore_gpu.ops.runtime.arguments import Source
from diffcore_gpu.ops.runtime.eager import EagerCall
from diffcore_gpu.ops.runtime.launch import KeptLaunch
from diffcore_gpu.plan import MixPlan
from diffcore_gpu.plan.crops import RandomResizedCropMirror, center_crop
from diffcore_gpu.plan.fields import unpack

CounterpartCrop: TypeAlias = Literal["own", "same"]


class GeometryStage:
    """A `RandomResizedCropMirror` with its table on one device, and what the cropped batch is written as.

    Args:
        config: the distribution of the crops.
        counterpart_crop: "own": a counterpart's crop and mirror flag are drawn for it alone; "same": it is cropped and
            mirrored as its image, which must be of the store's size.
        dtype: of the output.
        memory_format: of the output.

    Raises:
        ValueError: a value that is not supported.
    """

    def __init__(
        self,
        config: RandomResizedCropMirror,
        counterpart_crop: CounterpartCrop,
        dtype: torch.dtype,
        memory_format: torch.memory_format,
    ) -> None:
        if counterpart_crop not in ("own", "same"):
            raise ValueError(f'counterpart_crop must be "own" or "same", got {counterpart_crop!r}.')
        check_output(dtype, memory_format)
        self.config = config
        self.same = counterpart_crop == "same"
        self.side_table = config.side_table()
        self._parameters = config.parameters()
        self.output = list(config.size), dtype, memory_format == torch.channels_last

    def to(self, device: torch.device) -> None:
        """Bring the table to a device."""
        self.side_table = self.side_table.to(device)

    def settings(self) -> dict[str, str]:
        """What the images depend on, by name."""
        _, dtype, channels_last = self.output
        return {
            "geometry": repr(self.config),
            "counterpart_crop": "same" if self.same else "own",
            "dtype": str(dtype),
            "memory_format": "channels_last" if channels_last else "contiguous",
        }

    def check(self, images: Tensor, image_shape: tuple[int, int, int]) -> None:
        """Refuse a batch that cannot be cropped and mixed with counterparts of that shape (C, H, W).

        Raises:
            ValueError: not uint8 [B, C, H, W] with the store's channels, or with "same" not of its size.
        """
        check_bytes(images)
        if images.shape[1] != image_shape[0]:
            raise ValueError(f"images have {images.shape[1]} channels, but the store's have {image_shape[0]}.")
        if self.same and images.shape[1:] != image_shape:
            got, held = "×".join(map(str, images.shape[2:])), "×".join(map(str, image_shape[1:]))
            raise ValueError(
                f'images are {got}, but the store holds {held}; counterpart_crop="same" needs one size, "own" does not.'
            )

    def arguments(self) -> tuple[Any, ...]:
        """What the ops take after those of the plan: how crops are drawn, and what is written."""
        return self.side_table, list(self._parameters), list(self.config.ratio), self.same, *self.output

    def with_crops(
        self, plan: MixPlan, index: Tensor, image_size: tuple[int, int], counterpart_size: tuple[int, int],
        *, seed: int, round: Tensor,
    ) -> MixPlan:  # fmt: skip
        """A plan on the CPU with its crops."""
        return with_crops(
            plan, index, self._parameters, self.config.ratio, self.config.side_table(), image_size, counterpart_size,
            seed=seed, round=round, same=self.same,
        )  # fmt: skip

    def evaluate(self, images: Tensor, norm: Tensor) -> Tensor:
        """The central crop of evaluation, normalized, without a mix."""
        size, dtype, channels_last = self.output
        batch, _, height, width = images.shape
        crops = center_crop(
            batch, height=height, width=width, size=self.config.size, share=self.config.eval_share, device=images.device
        )
        resized: Tensor = torch.ops.diffcore.resized_crop(
            images, crops.crop, crops.mirror, norm, *size, dtype, channels_last
        )
        return resized

    def empty(self, images: Tensor) -> Tensor:
        """An uninitialized output for these images."""
        (height, width), dtype, channels_last = self.output
        return empty_output(images, height, width, dtype, channels_last)


class CropMixOp:
    """Draws, crops and mixes batches with one `Source`: to `crop_mix` what `MixOp` is to `mix`.

    Args:
        source: what plans are drawn from.
        stage: how images are cropped and what is written.
    """

    def __init__(self, source: Source, stage: GeometryStage) -> None:
        self.source = source
        self.stage = stage

    def __call__(
        self, images: Tensor, index: Tensor, labels: Tensor | None, round: Tensor, status: Tensor, advance: bool
    ) -> Tensor:
        """The cropped and mixed batch."""
        drawn = self.source.arguments(index, labels, round, status, advance)
        mixed: Tensor = torch.ops.diffcore.crop_mix_store(as_dense(images), *drawn, *self.stage.arguments())
        return mixed

    def with_plan(
        self, images: Tensor, index: Tensor, labels: Tensor | None, round: Tensor, status: Tensor, advance: bool
    ) -> tuple[Tensor, MixPlan]:
        """The cropped and mixed batch and what was done."""
        drawn = self.source.arguments(index, labels, round, status, advance)
        mixed, packed = torch.ops.diffcore.crop_mix_store_plan(as_dense(images), *drawn, *self.stage.arguments())
        return mixed, unpack(packed, images.shape[0], crops=True)

    def given(self, images: Tensor, rows: Tensor, plan: MixPlan) -> Tensor:
        """The batch cropped and mixed by a plan that is there; its rows count in `rows`."""
        mixed: Tensor = torch.ops.diffcore.crop_mix_plan(
            as_dense(images), rows, self.source.norm, *plan.tensors(), *self.stage.output
        )
        return mixed

    def eager(self, images: Tensor, index: Tensor, labels: Tensor | None, advance: bool) -> EagerCall | None:
        """The same call without the dispatcher, on a GPU, for batches like this one."""
        if not images.is_cuda or as_dense(images) is not images or not images.numel():
            return None
        run = KeptLaunch(launch_again(self.source, self.stage.arguments(), advance), self.source.constants)
        return EagerCall(run, self.stage.empty, images, index, labels, advance)
