"""The mix on the CPU: every pixel is read once and written once, in blocks that stay in the cache.

Nothing of the size of the batch is allocated but the output. Values are computed in float64 and rounded once, as in the
reference; regions that show one image alone are copied or normalized straight into place.
"""

from bisect import bisect_right
from collections.abc import Sequence

import torch
from torch import Tensor

from diffcore_gpu.plan import MixPlan

_BLOCK = 1 << 17
"""Pixels per block: its float64 buffer of 1 MiB, shared by the threads, stays in the second-level cache."""


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
    """The per-channel constants and the scratch buffer of one call."""

    def __init__(self, images: Tensor, norm: Tensor) -> None:
        channels, self.height, self.width = images.shape[1:]
        self.is_float = images.is_floating_point()
        pairs = norm[0].to(torch.float64)
        self.scales = (pairs[:, 0] + pairs[:, 1]).tolist()
        self.shifts = list((pairs[:, 2] + pairs[:, 3]).unbind())
        self.channels = range(channels)
        self.lines = max(1, min(self.height, _BLOCK // self.width))
        self.buffer = torch.empty(self.lines, self.width, dtype=torch.float64)

    def generated(self, counterpart: Tensor, out: Tensor, top: int, left: int, bottom: int, right: int) -> None:
        """Write a rectangle of the counterpart alone."""
        if top >= bottom or left >= right:
            return
        source, target = counterpart[:, top:bottom, left:right], out[:, top:bottom, left:right]
        if not self.is_float:
            target.copy_(source)
            return
        for c in self.channels:
            torch.add(self.shifts[c], source[c], alpha=self.scales[c], out=target[c])

    def patch(self, real: Tensor, counterpart: Tensor, out: Tensor, box: list[int], inside_real: bool) -> None:
        """Eq. 7: the box and the (at most four) rectangles around it, each from the image that shows there."""
        top, left, bottom, right = box
        around = (
            (0, 0, top, self.width),
            (top, 0, bottom, left),
            (top, right, bottom, self.width),
            (bottom, 0, self.height, self.width),
        )
        real_part, generated_part = ([(top, left, bottom, right)], around) if inside_real else (around, [(*box,)])
        for rectangle in generated_part:
            self.generated(counterpart, out, *rectangle)
        if out is not real:
            for t, l, b, r in real_part:  # noqa: E741
                out[:, t:b, l:r].copy_(real[:, t:b, l:r])

    def pixel(self, real: Tensor, counterpart: Tensor, out: Tensor, lam: float) -> None:
        """Eq. 6, block by block: λ·I + (1−λ)·(g·scale + shift)."""
        rest = 1.0 - lam
        for c in self.channels:
            scale, shift = (rest * self.scales[c], rest * self.shifts[c]) if self.is_float else (rest, _ZERO)
            for line in range(0, self.height, self.lines):
                block = slice(line, min(line + self.lines, self.height))
                buffer = self.buffer[: block.stop - line]
                torch.add(shift, counterpart[c, block], alpha=scale, out=buffer)
                if self.is_float:
                    torch.add(buffer, real[c, block], alpha=lam, out=out[c, block])
                else:
                    torch.add(buffer, real[c, block], alpha=lam, out=buffer)
                    out[c, block].copy_(buffer.round_())


_ZERO = torch.zeros((), dtype=torch.float64)


def mix_cpu(images: Tensor, out: Tensor, shards: Sequence[Tensor], norm: Tensor, plan: MixPlan) -> None:
    """Write the mixed batch into `out`, which may be `images` itself.

    Args:
        images: [B, C, H, W] uint8 or floating.
        out: like images.
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
    for sample, (row, pixel, lam, box, inside_real) in enumerate(fields):
        real = images[sample]
        target = real if inplace else out[sample]
        if row < 0:
            if not inplace:
                target.copy_(real)
        elif pixel and 0 < lam < 1:
            mixer.pixel(real, rows[row], target, lam)
        elif pixel:  # λ is 0 or 1: one image alone, everywhere outside an empty box
            mixer.patch(real, rows[row], target, [0, 0, 0, 0], lam == 0)
        else:
            mixer.patch(real, rows[row], target, box, inside_real)
