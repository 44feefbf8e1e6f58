"""What the kernels promise for images of 16 bits: eqs. 6–8 in float32 with fused multiply-adds, rounded once."""

from __future__ import annotations

import torch
from torch import Tensor

from diffcore_gpu.plan import MixPlan


def fused(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """a·b + c of float32 tensors, rounded once to float32.

    The product is exact in float64. The sum is rounded to odd there (Boldo, Melquiond, "Emulation of FMA and
    Correctly Rounded Sums: Proved Algorithms Using Rounding to Odd", IEEE Transactions on Computers 2008), so that
    rounding it again to float32 is harmless.
    """
    product, c = a.double() * b.double(), c.double()
    total = product + c
    part = total - product
    error = (product - (total - part)) + (c - part)
    even = total.view(torch.int64) % 2 == 0
    towards = torch.nextafter(total, torch.copysign(torch.full_like(error, torch.inf), error))
    return torch.where((error != 0) & even, towards, total).to(torch.float32)


def mix_in_float32(images: Tensor, counterparts: Tensor, plan: MixPlan, norm: Tensor) -> Tensor:
    """The mixed images, of the same type as `images` [B, C, H, W]; `norm` is float32 [2, C, 4] of `affine_of`."""

    def of_sample(value: Tensor) -> Tensor:
        return value.view(-1, 1, 1, 1)

    scale, shift = norm[0, :, 0].view(1, -1, 1, 1), norm[0, :, 2].view(1, -1, 1, 1)
    lam = of_sample(plan.lam)
    g = counterparts.float()
    blended = fused(images.float(), lam, fused(g, (1 - lam) * scale, (1 - lam) * shift)).to(images.dtype)
    shown = fused(g, scale, shift).to(images.dtype)
    height, width = images.shape[-2:]
    top, left, bottom, right = (of_sample(side) for side in plan.box.T)
    y, x = torch.arange(height).view(1, 1, -1, 1), torch.arange(width).view(1, 1, 1, -1)
    inside = (y >= top) & (y < bottom) & (x >= left) & (x < right)
    shows_real = torch.where(of_sample(plan.pixel), lam == 1, inside == of_sample(plan.inside_real))
    patched = torch.where(shows_real, images, shown)
    mixed = torch.where(of_sample(plan.pixel) & (lam > 0) & (lam < 1), blended, patched)
    return torch.where(of_sample(plan.row >= 0), mixed, images)
