"""ResizeMix: Qin, Fang, Zhang, Liu, Wang, Wang, "ResizeMix: Mixing Data with Preserved Object Information and True
Labels", arXiv 2012.11101, 2020.

    P_j = T(x_j, τ),   x̃_i = x_i with P_j pasted at a place of its own,   ỹ_i = λ·y_j + (1 − λ)·y_i

T shrinks a whole image by the rate τ ~ U(0.1, 0.8), one for the batch; λ = (area of P)/(H·W). The patch always lies in
the image, so nothing of the object is lost: a centre is drawn uniformly over the pixels for each image, and the patch
is shifted inwards where it would cross a border. The interval of τ, the nearest-neighbour resize and the places are
those of the authors' code; on a GPU all patches are pasted by one indexed write, where that code makes B copies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from diffcore_gpu.baselines._base import Baseline, Batch, Mixed, Need
from diffcore_gpu.baselines.images import to_device


@dataclass(eq=False, kw_only=True)
class ResizeMix(Baseline):
    """ResizeMix with the authors' defaults.

    Args:
        scale: interval of τ, of the image's side, within (0, 1].
    """

    name, title = "resizemix", "ResizeMix"
    needs = Need.PARTNERS

    scale: tuple[float, float] = (0.1, 0.8)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"ResizeMix needs scale as an interval within (0, 1], not {self.scale}.")

    def mix(self, batch: Batch, model: nn.Module) -> Mixed:
        """Paste a small copy of each image's partner."""
        images = batch.images
        size, _, height, width = images.shape
        if min(height, width) * self.scale[0] < 1:
            raise ValueError(
                f"ResizeMix would shrink images of {height}×{width} to nothing at a scale of {self.scale[0]}; "
                "give larger images or a larger scale."
            )
        small = interpolate(images, scale_factor=float(self._rng.uniform(*self.scale)), mode="nearest")
        patch = (small.shape[2], small.shape[3])
        permutation = self._draw_permutation(size)
        top = _corners(self._rng, size, height, patch[0])
        left = _corners(self._rng, size, width, patch[1])
        order, top, left = to_device(torch.stack([permutation, top, left]), images.device)
        paste = paste_by_copies if images.device.type == "cpu" else paste_by_index
        out = paste(images, small, order, top, left)
        lam = patch[0] * patch[1] / (height * width)
        return self._mixed(out, batch.labels, order, 1.0 - lam, lam)


def _corners(rng: np.random.Generator, size: int, full: int, part: int) -> Tensor:
    """int64 [size]: where a segment of `part` around a uniform pixel starts, once shifted into 0 … full − 1."""
    center = rng.integers(full, size=size)
    return torch.from_numpy(np.clip(center - part // 2, 0, full - part).astype(np.int64))


def paste_by_copies(images: Tensor, small: Tensor, order: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """Images with small[order[i]] at rows top[i] … and columns left[i] … of image i; for the CPU."""
    height, width = small.shape[2:]
    out = images.clone()
    for i, (j, row, column) in enumerate(zip(order.tolist(), top.tolist(), left.tolist(), strict=True)):
        out[i, :, row : row + height, column : column + width] = small[j]
    return out


def paste_by_index(images: Tensor, small: Tensor, order: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """The same in one indexed write, which reads nothing back from the device; for a GPU."""
    rows = (top[:, None] + torch.arange(small.shape[2], device=images.device))[:, :, None]
    columns = (left[:, None] + torch.arange(small.shape[3], device=images.device))[:, None, :]
    image = torch.arange(len(images), device=images.device)[:, None, None]
    out = images.clone()
    out.permute(0, 2, 3, 1)[image, rows, columns] = small.permute(0, 2, 3, 1)[order]
    return out
