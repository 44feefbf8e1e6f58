"""Which samples have counterparts in an arm: a stratified, nested part of those that a store has pairs for."""

from __future__ import annotations

import numpy as np

from diffcore_gpu import CounterpartStore
from diffcore_gpu.benchmarks.training.data import Data, Int64s
from diffcore_gpu.errors import BenchmarkError
from diffcore_gpu.generation.draws import choose_samples

COVERAGE_SEED = 0
"""Of the choice: the same samples in every arm and run, and those that `diffcore generate` chooses by default."""


def covered_samples(
    labels: Int64s, num_classes: int, has_pair: np.ndarray[tuple[int], np.dtype[np.bool_]], fraction: float
) -> tuple[Int64s, int]:
    """The samples that have counterparts: of each class of n samples, n · fraction rounded half up.

    They are those of `choose_samples`; in the place of each that has no pair, the first of its class that has one and
    is not chosen. A smaller fraction gives a part of what a larger one gives.

    Args:
        labels: int64 [N].
        num_classes: K.
        has_pair: bool [N], whether the store has a pair for the sample.
        fraction: in (0, 1].

    Returns:
        Positions in `labels`, int64, ascending; and how many are missing, because their class has no more pairs.
    """
    chosen = choose_samples(labels, num_classes, fraction, COVERAGE_SEED)
    kept = chosen[has_pair[chosen]]
    wanted = np.bincount(labels[chosen], minlength=num_classes) - np.bincount(labels[kept], minlength=num_classes)
    if not wanted.any():
        return kept, 0
    free = has_pair.copy()
    free[chosen] = False
    others = np.flatnonzero(free)
    others = others[np.argsort(labels[others], kind="stable")]
    counts = np.bincount(labels[others], minlength=num_classes)
    rank = np.arange(len(others)) - np.repeat(np.cumsum(counts) - counts, counts)
    fill = others[rank < np.repeat(wanted, counts)]
    return np.sort(np.concatenate((kept, fill))).astype(np.int64), int(wanted.sum()) - len(fill)


def restrict(
    store: CounterpartStore, data: Data, arm: str, fraction: float, allow_missing: float
) -> tuple[CounterpartStore, float]:
    """The store in which only the samples of an arm have counterparts.

    Args:
        store: bound to all of `data.train`.
        data: whose `part` is trained on.
        arm: name, for the message.
        fraction: coverage that the arm asks for.
        allow_missing: share of the samples that may lack the counterparts which they should have.

    Returns:
        The store, and the share of the samples that have counterparts in it.

    Raises:
        BenchmarkError: more samples lack them.
    """
    has_pair = (store.pair_ptr[1:] > store.pair_ptr[:-1]).numpy()[data.part]
    chosen, missing = covered_samples(data.labels[data.part], len(data.class_names), has_pair, fraction)
    total = len(data.part)
    if missing > allow_missing * total:
        raise BenchmarkError(
            f"the arm {arm} asks for counterparts for {fraction:.0%} of the training samples of each class, but "
            f"{store.path} has them for {has_pair.mean():.1%} of all, so {missing} of {total} samples would lack one; "
            f"make the missing ones, or accept it with --allow-missing {_rounded_up(missing / total)}."
        )
    return store.restricted_to(data.part[chosen]), len(chosen) / total


def _rounded_up(share: float) -> str:
    return f"{np.ceil(share * 1000) / 1000:.3f}"
