"""The mix on the CPU in torch operators, where `cpu_numba` cannot do it: without numba.

A few operations for each image, on blocks that the cache holds, each value written once. Values are computed in float64
and rounded, for 16-bit images by way of float32, since torch's conversion goes there. The operations work on whole
images where these fit a block, since an operation takes as long to start as to convert twenty thousand values. Nothing
of the size of the batch is allocated.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from diffcore_gpu.plan import MixPlan

_BLOCK = 1 << 18
"""Values per block: whole images of 3×256×256 or less. Its scratch memory holds 17 bytes for each."""

_Box = tuple[int, int, int, int]
"""(top, left, bottom, right) in pixels, half-open."""


class Shards:
    """Rows of a store that lie in several tensors, found by row number."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._tensors = tensors
        self._starts = [0]
        for tensor in tensors:
            self._starts.append(self._starts[-1] + tensor.shape[0])

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, row: int) -> Tensor:
        """uint8 [C, H, W], a view."""
        shard = bisect_right(self._starts, row) - 1
        return self._tensors[shard][row - self._starts[shard]]


class _Scratch(threading.local):
    """Memory for intermediate values, kept from call to call: to get it anew costs as much as half a pass over it."""

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def get(self, name: str, size: int, dtype: torch.dtype) -> Tensor:
        """A vector of at least `size` values, not initialized; the same for the same name."""
        kept = self._kept.get(name)
        if kept is None or kept.shape[0] < size:
            with torch.inference_mode(False):  # what is made in that mode cannot be written to outside of it
                kept = self._kept[name] = torch.empty(size, dtype=dtype)
        return kept


_scratch = _Scratch()


@lru_cache(maxsize=16)
def _constants(norm: bytes, width: int | None) -> tuple[Tensor, Tensor]:
    """Scale and shift of g·scale + shift in float64, from the memory of `affine_of`.

    Returns:
        Two tensors [C, 1, 1], or [width, C] for interleaved channels: operations on a last dimension of 3 are slow.
    """
    with torch.inference_mode(False):  # they are kept for calls outside of that mode
        pairs = torch.frombuffer(bytearray(norm), dtype=torch.float32).view(2, -1, 4)[0].to(torch.float64)
        scale, shift = (pairs[:, ::2] + pairs[:, 1::2]).unbind(1)
        if width is None:
            return scale.reshape(-1, 1, 1), shift.reshape(-1, 1, 1)
        return scale.repeat(width, 1), shift.repeat(width, 1)


class _Mixer:
    """The layout, the per-channel constants and the scratch memory of one call.

    An image and everything derived from it is held in the order of the memory: [C, H, W], or [H, W, C] where channels
    interleave (channels_last), so that operations run through contiguous memory.
    """

    def __init__(self, images: Tensor, norm: Tensor) -> None:
        self.channels, self.height, self.width = images.shape[1:]
        self.whole: _Box = (0, 0, self.height, self.width)
        self.interleaved = not images.is_contiguous()
        self.is_float = images.is_floating_point()
        self.scale, self.shift = _constants(norm.numpy().tobytes(), self.width if self.interleaved else None)
        line = self.channels * self.width
        self.lines = max(1, min(self.height, _BLOCK // line))
        self.wide = _scratch.get("wide", self.lines * line, torch.float64)
        self.wide_real = _scratch.get("wide_real", self.lines * line, torch.float64)
        self.bytes = _scratch.get("bytes", self.lines * line, torch.uint8)

    def in_memory_order(self, images: Tensor) -> tuple[Tensor, ...]:
        """Each of a batch [B, C, H, W] as a view in the order of its memory."""
        return (images.permute(0, 2, 3, 1) if self.interleaved else images).unbind(0)

    def part(self, image: Tensor, box: _Box) -> Tensor:
        """A rectangle of an image in memory order, a view."""
        if box == self.whole:
            return image
        top, left, bottom, right = box
        return image[top:bottom, left:right] if self.interleaved else image[:, top:bottom, left:right]

    def clipped(self, box: Sequence[int]) -> _Box:
        """The part of a box that lies in the image; a plan that was drawn has no other, one that is given may."""
        top, left, bottom, right = box
        return max(top, 0), max(left, 0), min(bottom, self.height), min(right, self.width)

    def blocks(self, box: _Box) -> Iterator[_Box]:
        """The rectangle, cut into bands of lines that fit a block."""
        top, left, bottom, right = box
        if left < right:
            for line in range(top, bottom, self.lines):
                yield line, left, min(line + self.lines, bottom), right

    def buffer(self, scratch: Tensor, box: _Box) -> Tensor:
        """The beginning of scratch memory, shaped as a rectangle in memory order."""
        height, width, channels = box[2] - box[0], box[3] - box[1], self.channels
        if self.interleaved:
            return scratch.as_strided((height, width, channels), (width * channels, channels, 1))
        return scratch.as_strided((channels, height, width), (height * width, width, 1))

    def stored(self, counterpart: Tensor, box: _Box) -> Tensor:
        """A rectangle of the counterpart ([C, H, W] in the store) as bytes in memory order."""
        if not self.interleaved:
            return self.part(counterpart, box)
        top, left, bottom, right = box
        # torch.stack interleaves bytes twice as fast as a copy from a permuted view.
        source = counterpart[:, top:bottom, left:right].unbind(0)
        return torch.stack(source, -1, out=self.buffer(self.bytes, box))

    def scaled(self, counterpart: Tensor, box: _Box, scale: Tensor, shift: Tensor) -> Tensor:
        """g·scale + shift of a rectangle of the counterpart, in the first float64 scratch memory."""
        if self.interleaved:
            scale, shift = scale[: box[3] - box[1]], shift[: box[3] - box[1]]
        return self.buffer(self.wide, box).copy_(self.stored(counterpart, box)).mul_(scale).add_(shift)

    def shown(self, counterpart: Tensor, box: _Box) -> Tensor:
        """A rectangle of the counterpart in the range of the images: float64 in scratch memory, or its bytes."""
        if self.is_float:
            return self.scaled(counterpart, box, self.scale, self.shift)
        return self.stored(counterpart, box)

    def generated(self, counterpart: Tensor, out: Tensor, box: _Box) -> None:
        """Write a rectangle of the counterpart alone."""
        for block in self.blocks(box):
            self.part(out, block).copy_(self.shown(counterpart, block))

    def patch(self, real: Tensor, counterpart: Tensor, out: Tensor, box: _Box, inside_real: bool) -> None:
        """Eq. 7."""
        if not inside_real:
            if out is not real:
                out.copy_(real)
            self.generated(counterpart, out, box)
            return
        top, left, bottom, right = box
        for block in self.blocks(self.whole):
            first, _, last, _ = block
            values = self.shown(counterpart, block)
            if not self.is_float and not self.interleaved:  # bytes of the store itself
                values = self.buffer(self.bytes, block).copy_(values)
            kept = max(top, first), left, min(bottom, last), right
            if kept[0] < kept[2] and left < right:
                lines = slice(kept[0] - first, kept[2] - first)
                columns = slice(left, right)
                place = values[lines, columns] if self.interleaved else values[:, lines, columns]
                place.copy_(self.part(real, kept))
            self.part(out, block).copy_(values)

    def pixel(self, real: Tensor, counterpart: Tensor, out: Tensor, lam: float) -> None:
        """Eq. 6, block by block: λ·I + (1−λ)·(g·scale + shift)."""
        rest = 1.0 - lam
        scale, shift = rest * self.scale, rest * self.shift
        for block in self.blocks(self.whole):
            if self.is_float:
                mixed = self.scaled(counterpart, block, scale, shift)
            else:
                mixed = self.buffer(self.wide, block).copy_(self.stored(counterpart, block)).mul_(rest)
            mixed.add_(self.buffer(self.wide_real, block).copy_(self.part(real, block)), alpha=lam)
            self.part(out, block).copy_(mixed if self.is_float else mixed.round_())


def mix_cpu(images: Tensor, out: Tensor, shards: Sequence[Tensor], norm: Tensor, plan: MixPlan) -> None:
    """Write the mixed batch into `out`, which may be `images` itself.

    Args:
        images: [B, C, H, W] uint8 or floating, contiguous or channels_last.
        out: like images and of the same strides.
        shards: uint8 [n_i, C, H, W] each; the rows of the plan count through them.
        norm: float32 [2, C, 4] of `affine_of`.
        plan: the plan of the batch.
    """
    rows = Shards(shards)
    mixer = _Mixer(images, norm)
    reals = mixer.in_memory_order(images)
    targets = reals if out is images else mixer.in_memory_order(out)
    fields = zip(
        reals,
        targets,
        plan.row.tolist(),
        plan.pixel.tolist(),
        plan.lam.tolist(),
        plan.box.tolist(),
        plan.inside_real.tolist(),
        strict=True,
    )
    for real, target, row, pixel, lam, box, inside_real in fields:
        if row < 0 or (pixel and lam == 1):
            if target is not real:
                target.copy_(real)
        elif pixel and lam == 0:
            mixer.generated(rows[row], target, mixer.whole)
        elif pixel:
            mixer.pixel(real, rows[row], target, lam)
        else:
            mixer.patch(real, rows[row], target, mixer.clipped(box), inside_real)
