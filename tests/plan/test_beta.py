"""The quantile table of λ against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

from diffcore_gpu.plan.beta import GRID, Beta, beta_quantiles


@pytest.mark.parametrize("alpha", [0.01, 0.2, 0.4, 1.0, 1.5, 8.0, 200.0])
def test_quantiles_equal_scipy_on_the_grid(alpha: float) -> None:
    table = beta_quantiles(alpha).to(torch.float64).numpy()
    probabilities = (np.arange(65536) + 0.5) / 65536
    exact = scipy.stats.beta.ppf(probabilities, alpha, alpha)
    assert np.abs(table - exact).max() * GRID <= 0.501  # rounded to the nearest multiple of 2^-24


@pytest.mark.parametrize("alpha", [0.05, 1.0, 30.0])
def test_table_is_monotone_symmetric_and_on_the_grid(alpha: float) -> None:
    table = beta_quantiles(alpha)
    assert table.dtype == torch.float32
    assert bool((table.diff() >= 0).all())
    assert bool((table + table.flip(0) == 1).all())
    units = table.to(torch.float64) * GRID
    assert bool((units == units.round()).all())


def test_largest_alpha_converges() -> None:
    table = beta_quantiles(1000.0).to(torch.float64)
    assert table.std().item() == pytest.approx((1 / (4 * 2001)) ** 0.5, rel=1e-3)


@pytest.mark.parametrize("alpha", [0.0, -1.0, 1001.0, float("nan"), float("inf")])
def test_alpha_outside_its_range_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match=r"alpha of Beta\(alpha, alpha\) must lie in"):
        Beta(alpha)
