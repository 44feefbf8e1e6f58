"""Exact quantiles of the symmetric Beta distribution, tabulated so that one random word gives one λ."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from diffcore_gpu.kernels.spec import GRID_BITS, TABLE_BITS

GRID: int = 1 << GRID_BITS

_MIN_ALPHA, _MAX_ALPHA = 0.01, 1000.0


@dataclass(frozen=True)
class Beta:
    """λ ~ Beta(alpha, alpha), as Mixup draws it.

    alpha = 1 is the uniform distribution; below 1 most images stay close to one of the two, above 1 close to the mean.

    Raises:
        ValueError: alpha is not a number in [0.01, 1000].
    """

    alpha: float

    def __post_init__(self) -> None:
        if not _MIN_ALPHA <= self.alpha <= _MAX_ALPHA:  # also refuses NaN
            raise ValueError(f"alpha of Beta(alpha, alpha) must lie in [{_MIN_ALPHA}, {_MAX_ALPHA}], got {self.alpha}.")


def _log_beta(alpha: float) -> float:
    return 2 * math.lgamma(alpha) - math.lgamma(2 * alpha)


def _continued_fraction(x: Tensor, alpha: float) -> Tensor:
    """The continued fraction of I_x(α, α) by the modified Lentz method (DLMF 8.17.22); x in (0, ½]."""
    tiny = 1e-300
    c = torch.ones_like(x)
    d = 1 - 2 * alpha * x / (alpha + 1)
    d = 1 / torch.where(d.abs() < tiny, tiny, d)
    h = d.clone()
    for m in range(1, 2000):
        step = torch.ones_like(x)
        for coefficient in (
            m * (alpha - m) / ((alpha + 2 * m - 1) * (alpha + 2 * m)),
            -(alpha + m) * (2 * alpha + m) / ((alpha + 2 * m) * (alpha + 2 * m + 1)),
        ):
            d = 1 + coefficient * x * d
            d = 1 / torch.where(d.abs() < tiny, tiny, d)
            c = 1 + coefficient * x / c
            c = torch.where(c.abs() < tiny, tiny, c)
            step = step * c * d
        h = h * step
        if (step - 1).abs().max() < 1e-15:
            return h
    raise ArithmeticError(f"The incomplete beta function did not converge for alpha = {alpha}.")


def _log_cdf(log_x: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """log I_x(α, α) and its derivative by log x, for x ≤ ½, where the continued fraction converges fast."""
    x = log_x.exp()
    log_front = alpha * (log_x + torch.log1p(-x)) - math.log(alpha) - _log_beta(alpha)
    log_cdf = log_front + _continued_fraction(x, alpha).log()
    log_density_times_x = alpha * log_x + (alpha - 1) * torch.log1p(-x) - _log_beta(alpha)
    return log_cdf, (log_density_times_x - log_cdf).exp()


def _lower_quantiles(u: Tensor, alpha: float) -> Tensor:
    """The u-quantiles (float64, u in (0, ½)) of Beta(α, α), by Newton's method inside a shrinking bracket in log x."""
    log_u = u.log()
    low = torch.full_like(u, -700.0)  # e^-700 is far below the grid for every alpha that is allowed
    high = torch.full_like(u, math.log(0.5))
    z = ((log_u + math.log(alpha) + _log_beta(alpha)) / alpha).clamp(low, high)
    for _ in range(100):
        log_cdf, slope = _log_cdf(z, alpha)
        error = log_cdf - log_u
        low, high = torch.where(error < 0, z, low), torch.where(error > 0, z, high)
        newton = z - error / slope
        inside = (newton > low) & (newton < high)
        following = torch.where(inside, newton, (low + high) / 2)
        if (following.exp() - z.exp()).abs().max() < 2**-40:
            return following.exp()
        z = following
    raise ArithmeticError(f"The Beta quantiles did not converge for alpha = {alpha}.")


@lru_cache(maxsize=16)
def beta_quantiles(alpha: float) -> Tensor:
    """λ at the middle of each of 2¹⁶ equally probable intervals of Beta(α, α).

    Entry k is the quantile of (k + ½)·2⁻¹⁶, rounded to a multiple of 2⁻²⁴. The upper 16 bits of a random word choose
    the entry, so the distribution differs from the exact one by at most 2⁻¹⁷ in probability.

    Returns:
        float32 [65536], increasing, symmetric: ``table[k] + table[-1 - k] == 1``. Shared; do not write to it.
    """
    half = 1 << (TABLE_BITS - 1)
    u = (torch.arange(half, dtype=torch.float64) + 0.5) / (1 << TABLE_BITS)
    lower = (_lower_quantiles(u, alpha) * GRID).round() / GRID
    return torch.cat([lower, 1 - lower.flip(0)]).to(torch.float32)
