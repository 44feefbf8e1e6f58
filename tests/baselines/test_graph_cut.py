"""Graph cuts on grids: exact for two labels, not to be improved by a swap for more, and independent of threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffcore_gpu.baselines.graph_cut import ENERGY_LIMIT, GridEnergy, minimize_by_swaps
from tests.baselines.labelings import all_labelings, all_swaps, energy_of

pytest.importorskip("gco", reason="gco-wrapper is not installed")


def random_grid(
    seed: int, height: int, width: int, labels: int, *, scale: int = 1000, truncated: bool = False
) -> GridEnergy:
    rng = np.random.default_rng(seed)
    distance = np.abs(np.subtract.outer(np.arange(labels), np.arange(labels)))
    return GridEnergy(
        rng.integers(-scale, scale, (height, width, labels)).astype(np.intc),
        (np.minimum(distance, 1) if truncated else distance**2).astype(np.intc),
        rng.integers(0, scale, (height - 1, width)).astype(np.intc),
        rng.integers(0, scale, (height, width - 1)).astype(np.intc),
    )


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from([(2, 2), (3, 3), (1, 4), (3, 2), (1, 1)]))
def test_two_labels_are_optimal(seed: int, shape: tuple[int, int]) -> None:
    grid = random_grid(seed, *shape, labels=2)
    (found,) = minimize_by_swaps([grid])
    assert energy_of(grid, found) == min(energy_of(grid, other) for other in all_labelings(*shape, 2))


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([3, 4]), st.booleans())
def test_no_swap_improves_more_labels(seed: int, labels: int, truncated: bool) -> None:
    grid = random_grid(seed, 2, 3, labels, truncated=truncated)
    (found,) = minimize_by_swaps([grid])
    assert energy_of(grid, found) == min(energy_of(grid, other) for other in all_swaps(found, labels))


def test_a_grid_does_not_depend_on_its_company_or_on_threads() -> None:
    grids = [random_grid(seed, 12, 12, 3) for seed in range(9)] + [random_grid(99, 2, 5, 4)]
    together = minimize_by_swaps(grids)
    for grid, labels in zip(grids, together, strict=True):
        assert labels.shape == grid.unary.shape[:2]
        np.testing.assert_array_equal(minimize_by_swaps([grid])[0], labels)
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(minimize_by_swaps, [grids] * 8):
            for one, other in zip(result, together, strict=True):
                np.testing.assert_array_equal(one, other)
    assert minimize_by_swaps([]) == []


def test_terms_as_large_as_allowed_do_not_overflow() -> None:
    grid = random_grid(3, 3, 3, 2, scale=ENERGY_LIMIT)
    (found,) = minimize_by_swaps([grid])
    assert energy_of(grid, found) == min(energy_of(grid, other) for other in all_labelings(3, 3, 2))


def test_what_the_library_cannot_take_is_refused() -> None:
    good = random_grid(0, 3, 3, 2)
    bad = {
        "at least 2 labels": good._replace(unary=good.unary[:, :, :1], smooth=good.smooth[:1, :1]),
        "needs weights of": good._replace(down=good.right),
        "symmetric": good._replace(smooth=np.array([[0, 1], [2, 0]], dtype=np.intc)),
        "not be negative": good._replace(right=-1 - good.right),
        "scale the energies down": good._replace(unary=good.unary + np.intc(2 * ENERGY_LIMIT)),
    }
    for message, grid in bad.items():
        with pytest.raises(ValueError, match=message):
            minimize_by_swaps([good, grid])
