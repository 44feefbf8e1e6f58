"""Labelings of small grids by graph cuts, for PuzzleMix and Co-Mixup.

The energy of a labeling l of a grid with sites s and 4-neighbours (s, t) is

    E(l) = Σ_s unary[s, l_s] + Σ_(s,t) weight[s, t] · smooth[l_s, l_t],

minimized by α-β swaps (Boykov, Veksler, Zabih, "Fast Approximate Energy Minimization via Graph Cuts", PAMI 2001) until
no swap lowers it: exact for two labels, a local minimum over all swaps for more. The library is gco-wrapper (gco-v3.0),
as in the published code of both methods. It works on the CPU and releases the interpreter lock, so the graphs of a
batch are cut by several threads.
The terms of gco-v3.0 allow research use only, whatever the wrapper's metadata say; it is no part of this package.

All energies are integers, as the library works with them. The published code hands it floats, which it scales and cuts
to 32 bits without a look: there a block that holds more than about 8 % of a 16 × 16 map overflows. Here the callers
scale, with the same resolution and room to spare, and what would not fit is refused.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.intc]

ENERGY_LIMIT = 10_000_000
"""The largest term that gco-v3.0 holds safe from overflow; beyond it, it may end the process."""

_WORTH_A_THREAD = 256
"""Sites × labels of a graph; below that a swap takes microseconds, less than handing it over."""

_library_lock = threading.Lock()
"""The library's table of graphs is not safe for threads."""


class GridEnergy(NamedTuple):
    """The energy of a grid of H × W sites and K labels; all integers of at most `ENERGY_LIMIT` in magnitude.

    Attributes:
        unary: [H, W, K].
        smooth: [K, K], symmetric, not negative, zero on the diagonal.
        down: [H − 1, W], not negative, the weight between a site and the one below.
        right: [H, W − 1], not negative, the weight between a site and the one to its right.
    """

    unary: IntArray
    smooth: IntArray
    down: IntArray
    right: IntArray


def gco() -> ModuleType:
    """The module of gco-wrapper.

    Raises:
        ImportError: it is not installed; naming the command.
    """
    try:
        return import_module("gco")
    except ImportError as error:
        raise ImportError(
            "PuzzleMix and Co-Mixup cut graphs with gco-wrapper, which is not installed: pip install gco-wrapper "
            "(where it has no wheel for your Python, pip builds it and needs a C++ compiler)."
        ) from error


def minimize_by_swaps(grids: Sequence[GridEnergy]) -> list[IntArray]:
    """A labeling of each grid that no α-β swap improves.

    Every grid starts with label 0 everywhere, and is solved for itself: what comes out does not depend on the others.

    Args:
        grids: may differ in size and number of labels.

    Returns:
        [H, W] for each, labels in [0, K).

    Raises:
        ImportError: gco-wrapper is not installed.
        ValueError: shapes do not fit, or a number is outside its range.
    """
    for grid in grids:
        _check(grid)
    library = gco()
    with _library_lock:
        graphs = [_graph(library, grid) for grid in grids]
        try:
            _swap(graphs, size=max((grid.unary.size for grid in grids), default=0))
            labels = [graph.get_labels() for graph in graphs]
        finally:
            for graph in graphs:
                graph.destroy_graph()
    return [found.reshape(grid.unary.shape[:2]) for found, grid in zip(labels, grids, strict=True)]


def _check(grid: GridEnergy) -> None:
    height, width, labels = grid.unary.shape
    if labels < 2 or grid.smooth.shape != (labels, labels):
        raise ValueError(f"a grid needs at least 2 labels and smooth of [K, K], got {labels} and {grid.smooth.shape}.")
    if grid.down.shape != (height - 1, width) or grid.right.shape != (height, width - 1):
        raise ValueError(
            f"a grid of {height} × {width} sites needs weights of {(height - 1, width)} and {(height, width - 1)}, "
            f"got {grid.down.shape} and {grid.right.shape}."
        )
    if (grid.smooth != grid.smooth.T).any() or grid.smooth.diagonal().any():
        raise ValueError("smooth must be symmetric, with zeros on the diagonal.")
    weights = max(int(part.max(initial=0)) for part in (grid.down, grid.right))
    if min(int(part.min(initial=0)) for part in (grid.down, grid.right, grid.smooth)) < 0:
        raise ValueError("weights and smooth must not be negative: α-β swaps need it.")
    if max(int(np.abs(grid.unary).max()), weights * int(grid.smooth.max())) > ENERGY_LIMIT:
        raise ValueError(f"an energy term is above {ENERGY_LIMIT}; scale the energies down.")


def _graph(library: ModuleType, grid: GridEnergy) -> Any:
    height, width, labels = grid.unary.shape
    graph = library.GCO()
    graph.create_general_graph(height * width, labels)
    graph.set_data_cost(grid.unary.reshape(-1, labels))
    first, second = _edges(height, width)
    if len(first):
        graph.set_all_neighbors(first, second, np.concatenate([grid.down.ravel(), grid.right.ravel()]))
    graph.set_smooth_cost(grid.smooth)
    return graph


@cache
def _edges(height: int, width: int) -> tuple[IntArray, IntArray]:
    """The first and second site of each edge: first those to the site below, then those to the right."""
    site = np.arange(height * width, dtype=np.intc).reshape(height, width)
    first = np.concatenate([site[:-1].ravel(), site[:, :-1].ravel()])
    return first, np.concatenate([site[1:].ravel(), site[:, 1:].ravel()])


def _swap(graphs: list[Any], size: int) -> None:
    threads = min(_processors(), len(graphs))
    if threads < 2 or size < _WORTH_A_THREAD:
        _swap_each(graphs)
        return
    # The caller's thread takes a share too; list() raises what a thread raised.
    waiting = _pool().map(_swap_each, [graphs[start::threads] for start in range(1, threads)])
    _swap_each(graphs[::threads])
    list(waiting)


def _swap_each(graphs: list[Any]) -> None:
    for graph in graphs:
        graph.swap()


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, _processors() - 1), thread_name_prefix="graph-cut")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork
