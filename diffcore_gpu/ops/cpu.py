"""The mix on the CPU: a few operations for each image, on blocks that the cache holds, written once.

Values are computed in float64 and rounded once, as in the reference. The operations work on whole images where these
fit a block, since an operation on a few thousand pixels costs more to start than to run. Nothing of the size of the
batch is allocated but the output, and that in huge pages where the system has them: a large output lies in fresh
memory, and bringing that in 4 KiB at a time takes longer than the mix.
"""

import ctypes
import mmap
from bisect import bisect_right
from collections.abc import Sequence

import torch
from torch import Tensor

from diffcore_gpu.plan import MixPlan

_BLOCK = 1 << 18
"""Values per block: whole images of 3×256×256 or less. Its scratch buffers hold 17 bytes for each."""

_HUGE_PAGES_FROM = 4 << 20
"""Bytes of output from which huge pages (2 MiB each) are asked for."""


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


class _Mixer:
    """The layout, the per-channel constants and the scratch buffers of one call.

    An image and everything derived from it is held in the order of the memory: [C, H, W], or [H, W, C] where channels
    interleave (channels_last), so that operations run through contiguous memory.
    """

    def __init__(self, images: Tensor, norm: Tensor) -> None:
        self.channels, self.height, self.width = images.shape[1:]
        self.interleaved = not images.is_contiguous()
        self.is_float = images.is_floating_point()
        pairs = norm[0].to(torch.float64)
        scale, shift = pairs[:, 0] + pairs[:, 1], pairs[:, 2] + pairs[:, 3]
        # Interleaved constants fill a line, since operations on a last dimension of 3 are slow.
        shape = (self.width, self.channels) if self.interleaved else (self.channels, 1, 1)
        self.scale, self.shift = (
            constant.expand(shape).contiguous() if self.interleaved else constant.reshape(shape)
            for constant in (scale, shift)
        )
        line = self.channels * self.width
        self.lines = max(1, min(self.height, _BLOCK // line))
        self.wide = torch.empty(self.lines * line, dtype=torch.float64)
        self.wide_real = torch.empty(self.lines * line, dtype=torch.float64)
        self.bytes = torch.empty(self.lines * line if self.interleaved else 0, dtype=torch.uint8)

    def in_memory_order(self, image: Tensor) -> Tensor:
        """[C, H, W] as a view in the order of its memory."""
        return image.permute(1, 2, 0) if self.interleaved else image

    def part(self, image: Tensor, top: int, left: int, bottom: int, right: int) -> Tensor:
        """A rectangle of an image in memory order, a view."""
        return image[top:bottom, left:right] if self.interleaved else image[:, top:bottom, left:right]

    def buffer(self, scratch: Tensor, height: int, width: int) -> Tensor:
        """The beginning of a scratch buffer, shaped as a rectangle in memory order."""
        shape = (height, width, self.channels) if self.interleaved else (self.channels, height, width)
        return scratch[: height * width * self.channels].view(shape)

    def stored(self, counterpart: Tensor, top: int, left: int, bottom: int, right: int) -> Tensor:
        """A rectangle of the counterpart ([C, H, W] in the store) as bytes in memory order."""
        source = counterpart[:, top:bottom, left:right]
        if not self.interleaved:
            return source
        # torch.stack interleaves bytes twice as fast as a copy from a permuted view.
        target = self.buffer(self.bytes, bottom - top, right - left)
        return torch.stack(source.unbind(0), -1, out=target)

    def normalized(self, stored: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """g·scale + shift of bytes in memory order, in the first float64 buffer."""
        height, width = stored.shape[:2] if self.interleaved else stored.shape[1:]
        wide = self.buffer(self.wide, height, width).copy_(stored)
        if self.interleaved:
            scale, shift = scale[:width], shift[:width]
        return wide.mul_(scale).add_(shift)

    def generated(self, counterpart: Tensor, out: Tensor, top: int, left: int, bottom: int, right: int) -> None:
        """Write a rectangle of the counterpart alone."""
        if left >= right:
            return
        for line in range(top, bottom, self.lines):
            block = line, left, min(line + self.lines, bottom), right
            shown = self.stored(counterpart, *block)
            if self.is_float:
                shown = self.normalized(shown, self.scale, self.shift)
            self.part(out, *block).copy_(shown)

    def patch(self, real: Tensor, counterpart: Tensor, out: Tensor, box: list[int], inside_real: bool) -> None:
        """Eq. 7. What surrounds the box is written over the whole image first, unless the image is there already."""
        top, left, bottom, right = box
        if not inside_real:
            if out is not real:
                out.copy_(real)
            self.generated(counterpart, out, top, left, bottom, right)
        elif out is not real:
            self.generated(counterpart, out, 0, 0, self.height, self.width)
            self.part(out, *box).copy_(self.part(real, *box))
        else:
            self.generated(counterpart, out, 0, 0, top, self.width)
            self.generated(counterpart, out, top, 0, bottom, left)
            self.generated(counterpart, out, top, right, bottom, self.width)
            self.generated(counterpart, out, bottom, 0, self.height, self.width)

    def pixel(self, real: Tensor, counterpart: Tensor, out: Tensor, lam: float) -> None:
        """Eq. 6, block by block: λ·I + (1−λ)·(g·scale + shift)."""
        rest = 1.0 - lam
        scale, shift = rest * self.scale, rest * self.shift
        for line in range(0, self.height, self.lines):
            block = line, 0, min(line + self.lines, self.height), self.width
            stored = self.stored(counterpart, *block)
            if self.is_float:
                mixed = self.normalized(stored, scale, shift)
            else:
                mixed = self.buffer(self.wide, block[2] - line, self.width).copy_(stored).mul_(rest)
            wide_real = self.buffer(self.wide_real, block[2] - line, self.width).copy_(self.part(real, *block))
            mixed.add_(wide_real, alpha=lam)
            self.part(out, *block).copy_(mixed if self.is_float else mixed.round_())


def _ask_for_huge_pages(out: Tensor) -> None:
    """Let fresh memory of a large output come in pages of 2 MiB instead of 4 KiB, where Linux offers that on request.

    It is advice: memory that is there already stays as it is, and a system that has no huge pages goes on without.
    """
    advice = getattr(mmap, "MADV_HUGEPAGE", None)
    if advice is None or out.nbytes < _HUGE_PAGES_FROM:
        return
    start = -(-out.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    stop = (out.data_ptr() + out.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(stop - start), ctypes.c_int(advice))


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
    fields = zip(
        plan.row.tolist(),
        plan.pixel.tolist(),
        plan.lam.tolist(),
        plan.box.tolist(),
        plan.inside_real.tolist(),
        strict=True,
    )
    inplace = out is images
    if not inplace:
        _ask_for_huge_pages(out)
    for sample, (row, pixel, lam, box, inside_real) in enumerate(fields):
        real = mixer.in_memory_order(images[sample])
        target = real if inplace else mixer.in_memory_order(out[sample])
        if row < 0:
            if not inplace:
                target.copy_(real)
        elif pixel and 0 < lam < 1:
            mixer.pixel(real, rows[row], target, lam)
        elif pixel:  # λ is 0 or 1: one image alone, everywhere outside an empty box
            mixer.patch(real, rows[row], target, [0, 0, 0, 0], lam == 0)
        else:
            mixer.patch(real, rows[row], target, box, inside_real)
