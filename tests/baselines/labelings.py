"""The energy of a labeling of a grid by its definition, and the labelings that it is compared with."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, product

import numpy as np

from diffcore_gpu.baselines.graph_cut import GridEnergy, IntArray


def energy_of(grid: GridEnergy, labels: IntArray) -> int:
    """The definition, term by term."""
    height, width, _ = grid.unary.shape
    total = sum(int(grid.unary[y, x, labels[y, x]]) for y in range(height) for x in range(width))
    for y in range(height - 1):
        for x in range(width):
            total += int(grid.down[y, x]) * int(grid.smooth[labels[y, x], labels[y + 1, x]])
    for y in range(height):
        for x in range(width - 1):
            total += int(grid.right[y, x]) * int(grid.smooth[labels[y, x], labels[y, x + 1]])
    return total


def all_labelings(height: int, width: int, labels: int) -> list[IntArray]:
    return [
        np.array(values, dtype=np.intc).reshape(height, width)
        for values in product(range(labels), repeat=height * width)
    ]


def all_swaps(found: IntArray, labels: int) -> Iterator[IntArray]:
    """Every labeling that differs only in which of two labels the sites with one of them have."""
    for pair in combinations(range(labels), 2):
        sites = np.argwhere(np.isin(found, pair))
        for values in product(pair, repeat=len(sites)):
            other = found.copy()
            other[tuple(sites.T)] = values
            yield other
